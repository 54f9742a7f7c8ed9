"""The inputs of a unit, chunk by chunk: pinned ranged reads, ahead of the arithmetic if remote."""

import itertools
import threading
from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait
from dataclasses import dataclass

from cluster.digests import combine_crc64nvme, crc64nvme
from cluster.errors import NotFoundError, PreconditionError
from cluster.store import Reader, Store, open_store
from fusion.dtypes import ITEM_BYTES
from fusion.plan import MergePlan, MergeUnit, PlacedTensor, SourceTensor, find_pieces
from jobs.errors import SourceChangedError
from jobs.ledger import SourceRead
from jobs.merge_memory import WorkerMemory, chunk_elements

Shard = tuple[int, str]  # index of the checkpoint, name of the shard


@dataclass(frozen=True, slots=True)
class Chunk:
    """Elements [first, last) of a tensor: what is read and computed at once.

    `skipped` is 1 where the first element began in the unit before, which reads it as well.
    """

    placed: PlacedTensor
    first: int
    last: int
    skipped: int = 0


@dataclass(frozen=True, slots=True, eq=False)
class ReadChunk:
    """A chunk and the bytes of its sources, which are valid until the next one is asked for."""

    chunk: Chunk
    inputs: Sequence[memoryview]


class ChunkReader:
    """Reads from the sources of one plan; keeps files open and buffers between units.

    Used by one thread at a time.
    """

    def __init__(
        self, plan: MergePlan, memory: WorkerMemory, *, known_digests: frozenset[Shard]
    ) -> None:
        self._plan = plan
        self._memory = memory
        self._known_digests = known_digests
        self._stores = [open_store(c.uri) for c in plan.request.checkpoints]
        self._pins = [{s.name: s.pin for s in c.shards} for c in plan.request.checkpoints]
        self._readers: dict[Shard, Reader] = {}
        self._lock = threading.Lock()
        sources = max((len(t.sources) for t in plan.request.tensors), default=1)
        self._buffers = [
            [memoryview(bytearray(memory.chunk_bytes)) for _ in range(sources)]
            for _ in range(memory.read_ahead)
        ]
        self._pool = (
            ThreadPoolExecutor(memory.read_ahead * sources, thread_name_prefix="read")
            if memory.read_ahead > 1
            else None
        )
        self.seen = SeenRanges()

    def read(self, unit: MergeUnit) -> Iterator[ReadChunk]:
        """All chunks of a unit in file order.

        Raises:
            SourceChangedError: a source is no longer the pinned one.
        """
        self.seen = SeenRanges()
        chunks = self._cut(unit)
        if self._pool is None:
            for chunk in chunks:
                views = self._views(chunk, self._buffers[0])
                for source, view in zip(chunk.placed.tensor.sources, views, strict=True):
                    self._read_source(source, chunk, view)
                yield self._note(chunk, views)
            return
        yield from self._read_ahead(chunks, self._pool)

    def _read_ahead(self, chunks: Iterator[Chunk], pool: ThreadPoolExecutor) -> Iterator[ReadChunk]:
        coming: deque[tuple[Chunk, list[memoryview], list[Future[None]]]] = deque()
        slots = itertools.cycle(self._buffers)

        def ask(chunk: Chunk) -> None:
            views = self._views(chunk, next(slots))
            sources = chunk.placed.tensor.sources
            reads = [
                pool.submit(self._read_source, source, chunk, view)
                for source, view in zip(sources, views, strict=True)
            ]
            coming.append((chunk, views, reads))

        try:
            for chunk in itertools.islice(chunks, self._memory.read_ahead):
                ask(chunk)
            while coming:
                chunk, views, reads = coming[0]
                for read in reads:
                    read.result()
                coming.popleft()
                yield self._note(chunk, views)
                following = next(chunks, None)
                if following is not None:
                    ask(following)
        finally:
            # After a failure nothing may still be writing into the buffers.
            wait([read for _, _, reads in coming for read in reads])

    def _cut(self, unit: MergeUnit) -> Iterator[Chunk]:
        for piece in find_pieces(self._plan, unit):
            tensor = piece.placed.tensor
            step = chunk_elements(self._memory.chunk_bytes, [s.dtype for s in tensor.sources])
            item = ITEM_BYTES[tensor.dtype]
            first = piece.first
            while first < piece.last:
                last = min(piece.last, (first // step + 1) * step)
                skipped = int(piece.placed.start + first * item < unit.start)
                yield Chunk(piece.placed, first, last, skipped)
                first = last

    def _views(self, chunk: Chunk, buffers: Sequence[memoryview]) -> list[memoryview]:
        count = chunk.last - chunk.first
        sources = chunk.placed.tensor.sources
        return [
            buffer[: count * ITEM_BYTES[source.dtype]]
            for source, buffer in zip(sources, buffers, strict=False)
        ]

    def _read_source(self, source: SourceTensor, chunk: Chunk, view: memoryview) -> None:
        start = source.start + chunk.first * ITEM_BYTES[source.dtype]
        try:
            self._reader(source.checkpoint, source.shard).read_into(view, start=start)
        except (PreconditionError, NotFoundError):
            pin = self._pins[source.checkpoint][source.shard]
            raise changed(self._stores[source.checkpoint], source.shard, pin.etag) from None

    def _reader(self, checkpoint: int, shard: str) -> Reader:
        place = (checkpoint, shard)
        with self._lock:
            reader = self._readers.get(place)
            if reader is None:
                pin = self._pins[checkpoint][shard]
                reader = self._stores[checkpoint].open_reader(
                    shard, if_match=pin.etag, version=pin.version
                )
                self._readers[place] = reader
        return reader

    def _note(self, chunk: Chunk, views: Sequence[memoryview]) -> ReadChunk:
        for source, view in zip(chunk.placed.tensor.sources, views, strict=True):
            self.seen.read_bytes += len(view)
            if (source.checkpoint, source.shard) in self._known_digests:
                skipped = chunk.skipped * ITEM_BYTES[source.dtype]
                start = source.start + chunk.first * ITEM_BYTES[source.dtype] + skipped
                self.seen.add(source, start, view[skipped:])
        return ReadChunk(chunk, views)


class SeenRanges:
    """What was read of sources whose digests are known: ranges and their CRCs."""

    def __init__(self) -> None:
        self.read_bytes = 0
        self._ranges: dict[Shard, list[SourceRead]] = {}

    def add(self, source: SourceTensor, start: int, view: memoryview) -> None:
        """One more range; neighbours become one."""
        if not view:
            return
        crc = crc64nvme(view)
        ranges = self._ranges.setdefault((source.checkpoint, source.shard), [])
        last = ranges[-1] if ranges else None
        if last is not None and last.start + last.size == start:
            crc = combine_crc64nvme([(last.crc64nvme, last.size), (crc, len(view))])
            ranges[-1] = SourceRead(
                source.checkpoint, source.shard, last.start, last.size + len(view), crc
            )
        else:
            ranges.append(SourceRead(source.checkpoint, source.shard, start, len(view), crc))

    @property
    def ranges(self) -> tuple[SourceRead, ...]:
        """All of them, by source and position."""
        return tuple(r for place in sorted(self._ranges) for r in self._ranges[place])


def changed(store: Store, key: str, etag: str) -> SourceChangedError:
    """The error of a source that is no longer the pinned one."""
    try:
        now = store.head(key).etag
    except NotFoundError:
        now = "gone"
    return SourceChangedError(
        f"{store.uri}/{key} was {etag} when it was pinned and is {now} now. Nothing was published.",
        "run the same command again: it plans anew with what is there now",
    )
