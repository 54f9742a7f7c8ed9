"""How much memory a merge worker uses, and chunks small enough for what it may use."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

from cluster.stores.open_store import open_store
from fusion.dtypes import ITEM_BYTES
from fusion.plans.health import BLOCK_ELEMENTS
from fusion.plans.plan import MergePlan, TensorRequest
from fusion.plans.sources import factor_ranges
from jobs.errors import MemoryNeedError

WIDEST_BYTES = 8
# One block in the widest dtype is added up, two are looked at.
WORK_BYTES = 3 * BLOCK_ELEMENTS * WIDEST_BYTES
SMALLEST_CHUNK_BYTES = BLOCK_ELEMENTS * WIDEST_BYTES
# From a disk 512 KiB to 1 MiB a read is fastest: sources, sum and output stay in the cache.
LOCAL_CHUNK_BYTES = 1 << 20
# From S3 8 to 16 MiB a request: fewer cost requests, more cost memory.
REMOTE_CHUNK_BYTES = 8 << 20
READ_AHEAD = 2  # chunks of every source: one computed, one on its way
# A process that has imported torch and boto3, before it does anything: measured 290 to 350 MiB,
# by how much of torch's library the kernel maps at a time.
IMPORTED_BYTES = 384 << 20
# Threads, connections and their buffers of a lane that reads or sends requests: four lanes were
# measured at 32 MiB above an idle process that has imported everything and their chunks.
REMOTE_LANE_BYTES = 8 << 20
# Header, plan, records and manifest of a tensor, and what each source adds to them: measured 4.8 kB
# a tensor from two checkpoints, 7.5 kB from four.
TENSOR_BYTES, SOURCE_BYTES = 2_300, 1_400
REMOTE_LANES = 2  # one computes a part while the other sends one


@dataclass(frozen=True, slots=True)
class WorkerMemory:
    """How a worker cuts its reads, and what that needs.

    Attributes:
        chunk_bytes: bytes that are read at once from one source.
        read_ahead: number of chunks of every source in memory.
        lanes: number of units in work at a time.
        total_bytes: resident memory of the worker's process in bytes, imports included: those are
            counted as the most that was seen on any machine.
    """

    chunk_bytes: int
    read_ahead: int
    lanes: int
    total_bytes: int


def fit_worker(
    plan: MergePlan, output: str, allowed_bytes: int, *, threads: int = 1
) -> WorkerMemory:
    """The largest chunks with which a worker keeps to its memory.

    Args:
        plan: plan of the merge.
        output: URI that parts are written to.
        allowed_bytes: bytes of memory for the whole process.
        threads: number of workers that share one process.

    Raises:
        MemoryNeedError: the smallest chunks need more.
    """
    is_read_remote = any(open_store(c.uri).is_remote for c in plan.request.checkpoints)
    is_sent = open_store(output).is_remote
    num_sources = max((len(t.distinct) for t in plan.request.tensors), default=1)
    unit = min(plan.unit_bytes, max(shard.size for shard in plan.shards))
    lanes = REMOTE_LANES if is_sent else 1
    read_ahead = READ_AHEAD if is_read_remote else 1
    # A part that is sent as one request is kept whole; on a disk it is written chunk by chunk.
    whole = unit if is_sent else 0
    talking = REMOTE_LANE_BYTES if is_sent or is_read_remote else 0
    threads = min(threads, len(plan.units))
    tables = sum(TENSOR_BYTES + SOURCE_BYTES * len(t.sources) for t in plan.request.tensors)

    def total(chunk: int) -> int:
        chunks = chunk * read_ahead * num_sources + output_bytes(plan, chunk)
        added = max(
            (_added_bytes(t, chunk, unit, read_ahead) for t in plan.request.tensors), default=0
        )
        lane = whole + chunks + added + WORK_BYTES + talking
        return IMPORTED_BYTES + tables + threads * lanes * lane

    chunk = REMOTE_CHUNK_BYTES if is_read_remote else LOCAL_CHUNK_BYTES
    largest = max(map(_widest_bytes, plan.request.tensors), default=0)
    while chunk // 2 >= max(largest, SMALLEST_CHUNK_BYTES):
        chunk //= 2
    while total(chunk) > allowed_bytes and chunk > SMALLEST_CHUNK_BYTES:
        chunk //= 2
    if total(chunk) > allowed_bytes and lanes > 1:
        lanes = 1
    if total(chunk) > allowed_bytes:
        raise MemoryNeedError(
            f"a merge of {num_sources} checkpoints needs {total(chunk):,} bytes a worker with the "
            f"smallest chunks, {allowed_bytes:,} are allowed; nothing was read or written",
            "raise resources.merge.memory (or --memory), or use fewer workers",
        )
    return WorkerMemory(chunk, read_ahead, lanes, total(chunk))


def output_bytes(plan: MergePlan, chunk_bytes: int) -> int:
    """The largest result of a chunk; an output may be wider than its sources."""
    return max(
        (
            chunk_elements(chunk_bytes, [source.dtype for source in tensor.sources])
            * ITEM_BYTES[tensor.dtype]
            for tensor in plan.request.tensors
        ),
        default=0,
    )


def _widest_bytes(tensor: TensorRequest) -> int:
    """Bytes of the tensor in the widest dtype of its sources."""
    return math.prod(tensor.shape) * max(ITEM_BYTES[source.dtype] for source in tensor.sources)


def _added_bytes(tensor: TensorRequest, chunk: int, unit: int, read_ahead: int) -> int:
    """What adapters need beside the bytes of their base: sums, and factors of a piece."""
    elements = chunk_elements(chunk, [source.dtype for source in tensor.sources])
    if tensor.columns:
        return elements * WIDEST_BYTES
    total = blocks = 0
    for source in tensor.sources:
        added = source.added
        if added is None:
            continue
        wide = ITEM_BYTES[source.value_dtype]
        rows = unit // (ITEM_BYTES[tensor.dtype] * added.columns) + 2
        ranges = factor_ranges(added, 0, min(math.prod(tensor.shape), rows * added.columns))
        counts = [part.size // ITEM_BYTES[part.factor.dtype] for part in ranges]
        # Read ahead as they are stored, and once in the dtype of the sum.
        total += sum(part.size for part in ranges) * read_ahead + sum(counts) * wide
        total += elements * wide
        blocks = max(blocks, 2 * max(BLOCK_ELEMENTS, added.columns) * wide)
    return total + blocks


def chunk_elements(chunk_bytes: int, dtypes: Sequence[str]) -> int:
    """Elements of a chunk whose widest source fits into `chunk_bytes`: whole blocks, at least one.

    Chunks end where blocks of the tensor end, so that nothing that is summed a block depends on
    the size of chunks.
    """
    widest = max(ITEM_BYTES[dtype] for dtype in dtypes)
    return max(1, chunk_bytes // widest // BLOCK_ELEMENTS) * BLOCK_ELEMENTS
