"""Small checkpoints on disk and merges of them, for tests."""

import json
from dataclasses import replace
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file

from cluster.workers.hands import Hands
from cluster.workers.runner import SerialRunner
from fusion.plans.layout import plan_merge
from fusion.plans.requests import model_request
from fusion.plans.wish import MergeWish
from jobs.candidates.pin import pin_checkpoint
from jobs.merge.driver import merge_all
from jobs.merge.job import MergeJob
from jobs.merge.memory import fit_worker

# Odd sizes, a scalar, an empty tensor, and one of several units.
SHAPES = {
    "a.weight": (33, 17),
    "b.bias": (5,),
    "c.scalar": (),
    "d.empty": (0, 4),
    "e.big": (701, 13),
}


def write_checkpoint(folder: Path, tensors, config=None) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
    (folder / "config.json").write_text(json.dumps(config or {"model_type": "test"}))
    return folder


def random_tensors(seed, dtype=torch.float32, shapes=None):
    generator = torch.Generator().manual_seed(seed)
    return {
        name: torch.randn(shape, generator=generator, dtype=torch.float64).to(dtype)
        for name, shape in (shapes or SHAPES).items()
    }


def write_sources(folder: Path, count: int, dtype=torch.float32, shapes=None):
    """`count` checkpoints; returns them pinned."""
    for index in range(count):
        write_checkpoint(folder / f"m{index}", random_tensors(index, dtype, shapes))
    return [pin_checkpoint(str(folder / f"m{i}"), name=f"m{i}")[0] for i in range(count)]


def merge(
    sources,
    weights,
    out: Path | str,
    *,
    dtype=None,
    unit_bytes=64 << 20,
    shard_bytes=5 * 10**9,
    runner=None,
    workers=1,
    chunk_bytes=1 << 20,
    health="sampled",
):
    """Merge into `out`; returns the plan and the outcome."""
    request = model_request(sources, weights, MergeWish(dtype=dtype))
    plan = plan_merge(request, unit_bytes=unit_bytes, shard_bytes=shard_bytes)
    memory = replace(fit_worker(plan, str(out), 1 << 30), chunk_bytes=chunk_bytes)
    job = MergeJob(plan, str(out), "model", "ledger", memory, health=health)
    return plan, merge_all(job, Hands(runner or SerialRunner(), workers))


def load_merged(out: Path, plan):
    tensors = {}
    for shard in plan.shards:
        tensors |= load_file(out / "model" / shard.name)
    return tensors
