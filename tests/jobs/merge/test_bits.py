"""The bytes of a merge depend on its plan alone: not on who computed what, when, or how often."""

import contextlib
import hashlib
import itertools
import random
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import save

from cluster.stores.open_store import open_store
from cluster.workers.hands import Hands
from cluster.workers.threads import ThreadRunner
from fusion.plans.layout import plan_merge
from fusion.plans.requests import model_request
from fusion.plans.wish import MergeWish
from jobs.candidates.pin import pin_checkpoint
from jobs.merge.driver import merge_all
from jobs.merge.job import MergeJob
from jobs.merge.memory import fit_worker
from tests.support.stopping import Stopped, Stopper, stoppable

WORKERS = (1, 2, 4, 8)
CHUNKS = (512 << 10, 1 << 20, 2 << 20)
# Odd, so that elements of 2, 4 and 8 bytes straddle the borders of units.
UNITS = (100_003, 250_001, 777_777, 64 << 20)
WEIGHTS = [0.2, 0.3, 0.5]


class ShuffledRunner(ThreadRunner):
    """Hands out the items in another order."""

    def __init__(self, seed):
        super().__init__()
        self._seed = seed

    def run_pool(self, make_worker, items, /, *, resources, workers):
        mixed = random.Random(self._seed).sample(items, len(items))
        return super().run_pool(make_worker, mixed, resources=resources, workers=workers)


def mixed_tensors(seed, big=200_003):
    generator = torch.Generator().manual_seed(seed)
    kinds = {
        "a.f32": ((big,), torch.float32),
        "b.bf16": ((101, 991), torch.bfloat16),
        "c.f64": ((77, 301), torch.float64),
        "d.f16": ((33, 17), torch.float16),
        "e.empty": ((0, 4), torch.float32),
        "f.scalar": ((), torch.bfloat16),
    }
    tensors = {
        name: torch.randn(shape, generator=generator, dtype=torch.float64).to(dtype)
        for name, (shape, dtype) in kinds.items()
    }
    return {**tensors, "g.flags": torch.arange(70_001) % 3 == 0, "h.ids": torch.arange(999)}


def write_mixed(place, **sizes):
    """Three checkpoints in a store; those in memory and on S3 have digests of their own."""
    for index in range(3):
        store = open_store(f"{place}/m{index}")
        store.put("model.safetensors", save(mixed_tensors(index, **sizes), {"format": "pt"}))
        store.put("config.json", b'{"model_type": "test"}')
    return [pin_checkpoint(f"{place}/m{i}", name=f"m{i}")[0] for i in range(3)]


def merge_somehow(sources, output, *, workers, chunk, unit, seed, kills=0):
    """One merge, killed now and then; every driver has another number of workers."""
    plan = plan_merge(model_request(sources, WEIGHTS, MergeWish()), unit_bytes=unit)
    memory = replace(fit_worker(plan, output, 4 << 30), chunk_bytes=chunk)
    job = MergeJob(plan, output, "model", "ledger", memory)
    for kill in range(kills):
        at = random.Random(f"{seed}-{kill}").randrange(15, 25 + 4 * len(plan.units))
        with stoppable(Stopper(at)) as stopper, contextlib.suppress(Stopped):
            merge_all(job, Hands(ShuffledRunner(seed + kill), WORKERS[kill]))
        assert stopper.is_stopped or kill > 0
    outcome = merge_all(job, Hands(ShuffledRunner(seed), workers))
    assert list(open_store(output).list_uploads()) == []
    return outcome, digest_of(output)


def digest_of(output):
    return hashlib.sha256(open_store(output).read("model/model.safetensors")).hexdigest()


GRID = list(itertools.product(WORKERS, CHUNKS, UNITS, (0, 3)))


def check_grid(sources, folder: Path, grid):
    _, plain = merge_somehow(
        sources, str(folder / "plain"), workers=1, chunk=1 << 20, unit=64 << 20, seed=0
    )
    for seed, (workers, chunk, unit, kills) in enumerate(grid):
        output = str(folder / str(seed))
        cut = {"workers": workers, "chunk": chunk, "unit": unit, "seed": seed}
        outcome, found = merge_somehow(sources, output, **cut, kills=kills)
        assert found == plain, cut
        assert (outcome.num_checked, outcome.num_unchecked) == (len(sources), 0)


@pytest.mark.long
def test_all_workers_chunks_units_orders_and_kills_give_one_digest(quick_folder):
    check_grid(write_mixed("memory://bits"), quick_folder, GRID)


def check_s3(place, folder, grid):
    """From S3 to S3, and from S3 to a folder with units of any size."""
    sources = write_mixed(place, big=2_700_001)
    num_known = sum(bool(open_store(c.uri).head("model.safetensors").crc64nvme) for c in sources)
    _, local = merge_somehow(
        sources, str(folder / "local"), workers=2, chunk=1 << 20, unit=333_333, seed=9
    )
    for seed, (workers, chunk, unit, kills) in enumerate(grid):
        cut = {"workers": workers, "chunk": chunk, "unit": unit, "seed": seed}
        outcome, found = merge_somehow(sources, f"{place}/out-{seed}", **cut, kills=kills)
        assert found == local, cut
        assert outcome.num_checked == num_known


@pytest.mark.s3
@pytest.mark.long
def test_s3_gives_the_digest_of_a_folder_with_other_units_and_kills(quick_folder, moto, use):
    use(moto)
    check_s3("s3://plain/bits", quick_folder, [(2, 1 << 20, (5 << 20) + 1, 2)])


@pytest.mark.s3
@pytest.mark.slow
def test_s3_gives_the_digest_of_a_folder_however_it_is_cut(quick_folder, seaweedfs, use):
    use(seaweedfs)
    parts = (5 << 20, (5 << 20) + 1, 6_000_001)
    grid = list(itertools.product(WORKERS, (512 << 10, 8 << 20), parts, (0, 3)))
    check_s3("s3://plain/bits", quick_folder, grid)
