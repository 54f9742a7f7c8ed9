"""One merge worker: a unit in, its bytes and its record out."""

import hashlib
import math
import os
import socket
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait
from dataclasses import dataclass

import torch

from cluster.errors import NotFoundError, PreconditionError
from cluster.store import Store, open_store
from fusion.checkpoint import Checkpoint
from fusion.dtypes import ITEM_BYTES
from fusion.errors import IntegerError, NonFiniteError
from fusion.method_specs import COPY
from fusion.methods import METHODS, TORCH_DTYPES
from fusion.plan import MergePlan, MergeUnit, PlacedTensor, SourceTensor, find_pieces
from jobs.errors import SourceChangedError
from jobs.ledger import Ledger, UnitRecord
from jobs.merge import MergeJob, UnitOrder
from jobs.process_memory import peak_bytes

CHUNK_BYTES = 4 << 20
SMALLEST_CHUNK_BYTES = 64 << 10
IN_FLIGHT = 2  # chunks of every source: one computed, one read ahead
READERS = 4


@dataclass(frozen=True, slots=True)
class Chunk:
    """Elements [first, last) of a tensor: what is read and computed at once."""

    placed: PlacedTensor
    first: int
    last: int


class MergeWorker:
    """Computes units of one job; buffers and stores live as long as the worker.

    Memory: the unit computed, the same again while it is sent, and two chunks of every source.
    """

    def __init__(self, job: MergeJob) -> None:
        torch.set_num_threads(1)
        self._job = job
        self._sources = [open_store(c.uri) for c in job.plan.request.checkpoints]
        self._pins = [
            {shard.name: shard.pin for shard in c.shards} for c in job.plan.request.checkpoints
        ]
        self._output = open_store(job.output)
        self._ledger = Ledger(self._output, job.ledger)
        self._chunk_bytes = chunk_bytes(job.plan, job.memory_bytes)
        sources = max(len(t.sources) for t in job.plan.request.tensors)
        # Sources of 8 bytes an element may feed outputs of fewer.
        self._buffers = [
            [bytearray(self._chunk_bytes) for _ in range(sources)] for _ in range(IN_FLIGHT)
        ]
        self._readers = ThreadPoolExecutor(READERS, thread_name_prefix="read")

    def __call__(self, order: UnitOrder) -> UnitRecord:
        """Compute one unit, write its bytes, note it in the ledger."""
        started = time.monotonic()
        unit, plan = order.unit, self._job.plan
        content = bytearray(unit.end - unit.start)
        header = plan.shards[unit.shard].header[unit.start : unit.end]
        content[: len(header)] = header
        largest, read_bytes = self._fill(plan, unit, content)
        sha256 = hashlib.sha256(content).hexdigest()
        shard = plan.shards[unit.shard]
        upload = self._output.resume_upload(
            f"{self._job.model}/{shard.name}", order.upload, size=shard.size
        )
        part = upload.write_part(unit.number, memoryview(content), offset=unit.start, sha256=sha256)
        record = UnitRecord(
            unit=unit.id,
            upload=order.upload,
            number=part.number,
            offset=part.offset,
            size=part.size,
            etag=part.etag,
            sha256=sha256,
            read_bytes=read_bytes,
            seconds=time.monotonic() - started,
            peak_bytes=peak_bytes(),
            largest=largest,
            worker=f"{socket.gethostname()}/{os.getpid()}",
        )
        self._ledger.write(record)
        return record

    def _fill(self, plan: MergePlan, unit: MergeUnit, content: bytearray) -> tuple[float, int]:
        """Compute all chunks of a unit, reading one ahead."""
        largest, read_bytes = 0.0, 0
        waiting: tuple[Chunk, int, list[Future[int]]] | None = None
        chunks = enumerate(self._cut(plan, unit))
        while True:
            ahead = next(chunks, None)
            following = None
            if ahead is not None:
                slot = ahead[0] % IN_FLIGHT
                following = (ahead[1], slot, self._read(ahead[1], self._buffers[slot]))
            if waiting is not None:
                chunk, slot, reads = waiting
                read_bytes += self._await(reads, following)
                largest = max(largest, self._compute(chunk, self._buffers[slot], unit, content))
            if following is None:
                return largest, read_bytes
            waiting = following

    def _await(
        self, reads: Sequence[Future[int]], following: tuple[Chunk, int, list[Future[int]]] | None
    ) -> int:
        """Bytes read. After a failure nothing may still be writing into the buffers."""
        try:
            return sum(read.result() for read in reads)
        except BaseException:
            wait([*reads, *(following[2] if following else ())])
            raise

    def _cut(self, plan: MergePlan, unit: MergeUnit) -> Iterator[Chunk]:
        for piece in find_pieces(plan, unit):
            tensor = piece.placed.tensor
            widest = max(ITEM_BYTES[source.dtype] for source in tensor.sources)
            step = self._chunk_bytes // widest
            for first in range(piece.first, piece.last, step):
                yield Chunk(piece.placed, first, min(first + step, piece.last))

    def _read(self, chunk: Chunk, buffers: Sequence[bytearray]) -> list[Future[int]]:
        sources = chunk.placed.tensor.sources
        return [
            self._readers.submit(self._read_source, source, chunk, buffer)
            for source, buffer in zip(sources, buffers, strict=False)
        ]

    def _read_source(self, source: SourceTensor, chunk: Chunk, buffer: bytearray) -> int:
        item = ITEM_BYTES[source.dtype]
        size = (chunk.last - chunk.first) * item
        pin = self._pins[source.checkpoint][source.shard]
        store = self._sources[source.checkpoint]
        try:
            store.read_into(
                source.shard,
                memoryview(buffer)[:size],
                start=source.start + chunk.first * item,
                if_match=pin.etag,
                version=pin.version,
            )
        except (PreconditionError, NotFoundError):
            raise _changed(store, source.shard, pin.etag) from None
        return size

    def _compute(
        self, chunk: Chunk, buffers: Sequence[bytearray], unit: MergeUnit, content: bytearray
    ) -> float:
        """Average one chunk into the unit's bytes; returns the largest magnitude."""
        tensor = chunk.placed.tensor
        count = chunk.last - chunk.first
        inputs = [
            torch.frombuffer(buffer, dtype=TORCH_DTYPES[source.dtype], count=count)
            for source, buffer in zip(tensor.sources, buffers, strict=False)
        ]
        item = ITEM_BYTES[tensor.dtype]
        start = chunk.placed.start + chunk.first * item - unit.start
        whole = start >= 0 and start + count * item <= len(content) and start % item == 0
        target = memoryview(content)[start : start + count * item] if whole else None
        space = target if target is not None else bytearray(count * item)
        out = torch.frombuffer(space, dtype=TORCH_DTYPES[tensor.dtype])
        largest = 0.0
        if tensor.method == COPY:
            self._check_equal(chunk, inputs)
            out.copy_(inputs[0])
        else:
            if self._job.device != "cpu":
                inputs = [x.to(self._job.device) for x in inputs]
                result = out.to(self._job.device)
                largest = METHODS[tensor.method](tensor, inputs, result)
                out.copy_(result)
            else:
                largest = METHODS[tensor.method](tensor, inputs, out)
            self._check_finite(chunk, inputs, out, largest)
        if target is None:
            _paste(memoryview(space), start, content)
        return largest

    def _check_equal(self, chunk: Chunk, inputs: Sequence[torch.Tensor]) -> None:
        for source, other in zip(chunk.placed.tensor.sources, inputs, strict=True):
            if not torch.equal(other, inputs[0]):
                index = chunk.first + int((other != inputs[0]).nonzero()[0])
                first = self._name(chunk.placed.tensor.sources[0])
                raise IntegerError(
                    f"{chunk.placed.tensor.name} ({source.dtype}) differs between {first} and "
                    f"{self._name(source)}, first at element {index}; whole numbers cannot be "
                    "averaged. Nothing was published.",
                    "leave one of them out, or export them with the same buffers",
                )

    def _check_finite(
        self, chunk: Chunk, inputs: Sequence[torch.Tensor], out: torch.Tensor, largest: float
    ) -> None:
        if math.isfinite(largest) and (
            largest < torch.finfo(out.dtype).max or bool(torch.isfinite(out).all())
        ):
            return
        tensor = chunk.placed.tensor
        for source, values in zip(tensor.sources, inputs, strict=True):
            bad = int((~torch.isfinite(values)).sum())
            if bad:
                raise NonFiniteError(
                    f"{tensor.name} of {self._name(source)} has {bad} NaN or infinite values "
                    f"among elements {chunk.first} to {chunk.last}. Nothing was published.",
                    f"leave {self._name(source)} out, or set merge.on_nonfinite: "
                    "exclude_and_reweight",
                    self._name(source),
                    tensor.name,
                )
        raise NonFiniteError(
            f"{tensor.name}: the average reaches {largest:.3g}, more than {tensor.dtype} holds. "
            "Nothing was published.",
            "set merge.dtype: float32",
            "",
            tensor.name,
        )

    def _name(self, source: SourceTensor) -> str:
        checkpoint: Checkpoint = self._job.plan.request.checkpoints[source.checkpoint]
        return checkpoint.name


def chunk_bytes(plan: MergePlan, memory_bytes: int) -> int:
    """Bytes read at once from one source so that a worker stays within its memory."""
    sources = max(len(tensor.sources) for tensor in plan.request.tensors)
    unit = min(plan.unit_bytes, max(shard.size for shard in plan.shards))
    room = (memory_bytes - 2 * unit) // (IN_FLIGHT * sources + 1)
    return max(SMALLEST_CHUNK_BYTES, min(CHUNK_BYTES, room)) // 8 * 8


def _paste(values: memoryview, start: int, content: bytearray) -> None:
    """Copy `values` to `start`, leaving out what falls outside of `content`."""
    low, high = max(0, start), min(len(content), start + len(values))
    content[low:high] = values[low - start : high - start]


def _changed(store: Store, key: str, etag: str) -> SourceChangedError:
    try:
        now = store.head(key).etag
    except NotFoundError:
        now = "gone"
    return SourceChangedError(
        f"{store.uri}/{key} was {etag} when it was pinned and is {now} now. Nothing was published.",
        "run the same command again: it plans anew with what is there now",
    )
