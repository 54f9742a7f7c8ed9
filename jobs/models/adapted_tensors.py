"""The tensors of the model that a checkpoint stands for; an adapter's are computed, not stored."""

import contextlib
from collections.abc import Sequence

import torch

from fusion.checkpoints.checkpoint import Checkpoint, TensorSpec
from fusion.methods.contract import TORCH_DTYPES
from fusion.plans.layout import plan_merge
from fusion.plans.plan import MergePlan
from fusion.plans.requests import model_request
from fusion.plans.wish import MergeWish
from jobs.merge.chunk_arithmetic import ChunkArithmetic
from jobs.merge.chunks import ChunkReader
from jobs.merge.memory import fit_worker
from jobs.models.tensor_reads import (
    Extremes,
    ReadTensors,
    empty_like,
    find_largest,
    look_at,
    read_tensors,
)

MEMORY_BYTES = 2 << 30


def load_tensors(checkpoint: Checkpoint, device: torch.device) -> ReadTensors:
    """All tensors of a checkpoint; of an adapter, those of its base with what it adds.

    Raises:
        NonFiniteError: a NaN or an infinity in a tensor.
        SourceChangedError: a file is no longer the pinned one.
    """
    if checkpoint.adapter is None:
        return read_tensors(checkpoint, device)
    return add_adapter(checkpoint, checkpoint.adapter.base, device)


def add_adapter(checkpoint: Checkpoint, base: Checkpoint, device: torch.device) -> ReadTensors:
    """Base plus adapter with the bits of a merge of the adapter alone, chunk by chunk.

    The sum is in float32 (float64 where the base has float64); then it is rounded to float32. In
    memory are the tensors, one chunk and the factors of one tensor. Raises as `load_tensors`.
    """
    is_double = any(spec.dtype == "F64" for spec in base.tensors)
    request = model_request(
        [checkpoint], [1.0], MergeWish(dtype="float64" if is_double else "float32")
    )
    plan = plan_merge(request)
    memory = fit_worker(plan, base.uri, MEMORY_BYTES)
    reader = ChunkReader(plan, memory, known_crcs={})
    arithmetic = ChunkArithmetic(plan, memory.chunk_bytes)
    specs = _planned_specs(plan)
    targets = {spec.name: empty_like(spec, device) for spec in specs}
    seen = dict.fromkeys(targets, Extremes())
    with contextlib.closing(reader):
        for read in (read for unit in plan.units for read in reader.read(unit)):
            chunk, tensor = read.chunk, read.chunk.placed.tensor
            made = arithmetic.compute(read).made
            values = torch.frombuffer(made, dtype=TORCH_DTYPES[tensor.dtype])
            targets[tensor.name].view(-1)[chunk.first : chunk.last].copy_(values)
            seen[tensor.name] = seen[tensor.name].with_part(look_at(values))
    return ReadTensors(targets, *find_largest(checkpoint.name, specs, seen))


def _planned_specs(plan: MergePlan) -> Sequence[TensorSpec]:
    return [
        TensorSpec(
            placed.tensor.name,
            placed.tensor.dtype,
            placed.tensor.shape,
            shard.name,
            placed.start,
            placed.end,
        )
        for shard in plan.shards
        for placed in shard.tensors
    ]
