"""From a merge request to a plan: shards, headers, units; every byte gets an address."""

import json
import math
from collections.abc import Sequence

from fusion.canonical import digest, to_json
from fusion.checkpoints.checkpoint import checkpoint_digest
from fusion.checkpoints.header import format_header
from fusion.dtypes import ITEM_BYTES
from fusion.errors import MethodError
from fusion.plans.method_specs import CONCATENATE, COPY, METHOD_SPECS
from fusion.plans.plan import MergePlan, MergeRequest, OutputShard, PlacedTensor, TensorRequest

# 64 MiB: large enough that requests cost nothing, small enough that a lost one is soon redone.
UNIT_BYTES = 64 << 20
SHARD_BYTES = 5_000_000_000
MAX_PARTS = 10_000


def plan_merge(
    request: MergeRequest, *, unit_bytes: int = UNIT_BYTES, shard_bytes: int = SHARD_BYTES
) -> MergePlan:
    """Place every output tensor and cut the output into units.

    The cutting depends on bytes alone. All units of a shard have `unit_bytes` but the last;
    `unit_bytes` grows where a shard would need more than 10,000.

    Raises:
        MethodError: a method that does not exist.
    """
    for tensor in request.tensors:
        if tensor.method not in (COPY, CONCATENATE) and tensor.method not in METHOD_SPECS:
            raise MethodError(
                f"{tensor.method} is not a merge method; supported: {', '.join(METHOD_SPECS)}"
            )
    # Adapters are read from one file, whatever their size.
    limit = shard_bytes if request.stem == "model" else math.inf
    groups = _split_shards(request.tensors, limit)
    shards = tuple(
        _place(group, shard_name(number, len(groups), stem=request.stem))
        for number, group in enumerate(groups)
    )
    largest = max(shard.size for shard in shards)
    while largest > unit_bytes * MAX_PARTS:
        unit_bytes *= 2
    content = to_json(
        {
            "checkpoints": [checkpoint_digest(c) for c in request.checkpoints],
            "tensors": request.tensors,
            "shards": [(shard.name, shard.size) for shard in shards],
            "unit_bytes": unit_bytes,
        }
    )
    return MergePlan(digest(content), request, shards, unit_bytes)


def shard_name(index: int, count: int, *, stem: str = "model") -> str:
    """model.safetensors, or model-00001-of-00003.safetensors."""
    if count == 1:
        return f"{stem}.safetensors"
    return f"{stem}-{index + 1:05d}-of-{count:05d}.safetensors"


def format_index(plan: MergePlan) -> bytes:
    """model.safetensors.index.json for a plan of several shards."""
    total = sum(placed.end - placed.start for shard in plan.shards for placed in shard.tensors)
    parameters = sum(math.prod(tensor.shape) for tensor in plan.request.tensors)
    table = {
        "metadata": {"total_parameters": parameters, "total_size": total},
        "weight_map": {
            placed.tensor.name: shard.name for shard in plan.shards for placed in shard.tensors
        },
    }
    return json.dumps(table, indent=2, sort_keys=True).encode() + b"\n"


def _split_shards(
    tensors: Sequence[TensorRequest], shard_bytes: float
) -> list[list[TensorRequest]]:
    groups: list[list[TensorRequest]] = [[]]
    filled = 0
    for tensor in tensors:
        size = math.prod(tensor.shape) * ITEM_BYTES[tensor.dtype]
        if groups[-1] and filled + size > shard_bytes:
            groups.append([])
            filled = 0
        groups[-1].append(tensor)
        filled += size
    return groups


def _place(tensors: Sequence[TensorRequest], name: str) -> OutputShard:
    header = format_header([(t.name, t.dtype, t.shape) for t in tensors], {"format": "pt"})
    position = len(header)
    placed = []
    for tensor in tensors:
        end = position + math.prod(tensor.shape) * ITEM_BYTES[tensor.dtype]
        placed.append(PlacedTensor(tensor, position, end))
        position = end
    return OutputShard(name, position, header, tuple(placed))
