"""The inputs of a unit, chunk by chunk: pinned ranged reads, ahead of the arithmetic if remote."""

import itertools
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace

from cluster.digests import KnownCrc, combine_crcs, compute_crc
from cluster.errors import NotFoundError, PreconditionError
from cluster.stores.open_readers import OpenReaders
from cluster.stores.open_store import open_store
from cluster.stores.store import Reader
from fusion.dtypes import ITEM_BYTES
from fusion.plans.plan import MergePlan, MergeUnit, Piece, PlacedTensor, find_pieces
from fusion.plans.sources import SourceTensor, first_seen
from jobs.candidates.changes import changed
from jobs.merge.factor_reads import FactorBytes, FactorReader, PieceFactors, read_at_once
from jobs.merge.ledger import SourceRead
from jobs.merge.memory import WorkerMemory, chunk_elements

# Of one worker: 16 of them in one process keep to the usual limit of 1,024 open files.
OPEN_FILES, MOST_OPEN_FILES = 16, 48
Shard = tuple[int, str]  # index of the checkpoint, name of the shard


@dataclass(frozen=True, slots=True)
class Chunk:
    """Elements [first, last) of a tensor: what is read and computed at once.

    `skipped` is 1 where the first element began in the unit before, which reads it as well.
    `piece` is what the unit needs of the tensor; this is a part of it.
    """

    placed: PlacedTensor
    first: int
    last: int
    skipped: int
    piece: Piece


@dataclass(frozen=True, slots=True, eq=False)
class ReadChunk:
    """A chunk and the bytes of its sources, which are valid until the next one is asked for.

    `factors` are the bytes of A and B by source, of those to which an adapter adds something.
    """

    chunk: Chunk
    inputs: Sequence[memoryview]
    factors: Mapping[int, FactorBytes]


class ChunkReader:
    """Reads from the sources of one plan; keeps files open and buffers between units.

    Used by one thread at a time.
    """

    def __init__(
        self, plan: MergePlan, memory: WorkerMemory, *, known_crcs: Mapping[Shard, KnownCrc]
    ) -> None:
        self._plan = plan
        self._memory = memory
        self._known_crcs = known_crcs
        self._stores = [open_store(c.uri) for c in plan.request.checkpoints]
        self._pins = [{s.name: s.pin for s in c.shards} for c in plan.request.checkpoints]
        sources = max((len(t.sources) for t in plan.request.tensors), default=1)
        # What one chunk needs stays open for the next one.
        self._readers = OpenReaders(min(max(OPEN_FILES, sources), MOST_OPEN_FILES))
        buffers = max((len(t.distinct) for t in plan.request.tensors), default=1)
        self._buffers = [
            [memoryview(bytearray(memory.chunk_bytes)) for _ in range(buffers)]
            for _ in range(memory.read_ahead)
        ]
        self._pool = (
            ThreadPoolExecutor(memory.read_ahead * sources, thread_name_prefix="read")
            if memory.read_ahead > 1
            else None
        )
        self._factors = FactorReader(self._read_range)
        self.seen = SeenRanges(self._known_crcs)

    def read(self, unit: MergeUnit) -> Iterator[ReadChunk]:
        """All chunks of a unit in file order.

        Raises:
            SourceChangedError: a source is no longer the pinned one.
        """
        self.seen = SeenRanges(self._known_crcs)
        chunks = self._cut(unit)
        if self._pool is None:
            for chunk in chunks:
                views = self._views(chunk, self._buffers[0])
                for index in chunk.placed.tensor.distinct:
                    self._read_source(index, chunk, views[index])
                factors = self._factors.ask(chunk.piece, submit=read_at_once)
                yield self._note(chunk, views, factors)
            return
        yield from self._read_ahead(chunks, self._pool)

    def close(self) -> None:
        """Close the files that are open. It may be read on: they are opened again."""
        self._readers.close()

    def _read_ahead(self, chunks: Iterator[Chunk], pool: ThreadPoolExecutor) -> Iterator[ReadChunk]:
        coming: deque[tuple[Chunk, list[memoryview], list[Future[None]], PieceFactors]] = deque()
        slots = itertools.cycle(self._buffers)

        def ask(chunk: Chunk) -> None:
            views = self._views(chunk, next(slots))
            reads = [
                pool.submit(self._read_source, index, chunk, views[index])
                for index in chunk.placed.tensor.distinct
            ]
            factors = self._factors.ask(chunk.piece, submit=pool.submit)
            coming.append((chunk, views, reads, factors))

        try:
            for chunk in itertools.islice(chunks, self._memory.read_ahead):
                ask(chunk)
            while coming:
                chunk, views, reads, factors = coming[0]
                for read in reads:
                    read.result()
                coming.popleft()
                yield self._note(chunk, views, factors)
                following = next(chunks, None)
                if following is not None:
                    ask(following)
        finally:
            # After a failure nothing may still be writing into the buffers.
            wait([read for _, _, reads, factors in coming for read in (*reads, *factors.reads)])

    def _cut(self, unit: MergeUnit) -> Iterator[Chunk]:
        for piece in find_pieces(self._plan, unit):
            tensor = piece.placed.tensor
            step = chunk_elements(self._memory.chunk_bytes, [s.dtype for s in tensor.sources])
            item = ITEM_BYTES[tensor.dtype]
            first = piece.first
            while first < piece.last:
                last = min(piece.last, (first // step + 1) * step)
                skipped = int(piece.placed.start + first * item < unit.start)
                yield Chunk(piece.placed, first, last, skipped, piece)
                first = last

    def _views(self, chunk: Chunk, buffers: Sequence[memoryview]) -> list[memoryview]:
        """A view a source; sources that share their bytes share a view."""
        tensor, free = chunk.placed.tensor, iter(buffers)
        views: dict[tuple[int, str, int], memoryview] = {}
        for index in tensor.distinct:
            source = tensor.sources[index]
            first, last = tensor.span(index, chunk.first, chunk.last)
            views[_place(source)] = next(free)[: (last - first) * ITEM_BYTES[source.dtype]]
        return [views[_place(source)] for source in tensor.sources]

    def _read_source(self, index: int, chunk: Chunk, view: memoryview) -> None:
        tensor = chunk.placed.tensor
        source = tensor.sources[index]
        first, _ = tensor.span(index, chunk.first, chunk.last)
        start = source.start + first * ITEM_BYTES[source.dtype]
        self._read_range(source.checkpoint, source.shard, start, view)

    def _read_range(self, checkpoint: int, shard: str, start: int, view: memoryview) -> None:
        if not view:
            return
        try:
            with self._open(checkpoint, shard) as reader:
                reader.read_into(view, start=start)
        except (PreconditionError, NotFoundError):
            pin = self._pins[checkpoint][shard]
            raise changed(self._stores[checkpoint], shard, pin) from None

    def _open(self, checkpoint: int, shard: str) -> AbstractContextManager[Reader]:
        pin, store = self._pins[checkpoint][shard], self._stores[checkpoint]
        return self._readers.use(
            (checkpoint, shard),
            lambda: store.open_reader(shard, if_match=pin.etag, version=pin.version),
        )

    def _note(self, chunk: Chunk, views: Sequence[memoryview], asked: PieceFactors) -> ReadChunk:
        tensor, factors = chunk.placed.tensor, asked.wait()
        for index in tensor.distinct:
            source = tensor.sources[index]
            self.seen.read_bytes += len(views[index])
            place = (source.checkpoint, source.shard)
            if place in self._known_crcs:
                item = ITEM_BYTES[source.dtype]
                first, _ = tensor.span(index, chunk.first, chunk.last)
                new, _ = tensor.span(index, chunk.first + chunk.skipped, chunk.last)
                start = source.start + new * item
                self.seen.add(place, start, views[index][(new - first) * item :])
        if chunk.first == chunk.piece.first:
            self._note_factors(chunk, factors)
        return ReadChunk(chunk, views, factors)

    def _note_factors(self, chunk: Chunk, factors: Mapping[int, FactorBytes]) -> None:
        for index, read in factors.items():
            added = chunk.placed.tensor.sources[index].added
            assert added is not None
            self.seen.read_bytes += len(read.a) + len(read.b)
            new = first_seen(added, chunk.first + chunk.skipped, chunk.piece.last)
            for part, whole, view in zip(new, read.ranges, (read.a, read.b), strict=True):
                low = part.start - whole.start
                place = (added.checkpoint, part.factor.shard)
                self.seen.add(place, part.start, view[low : low + part.size])


class SeenRanges:
    """What was read of sources of which a CRC is known: ranges, and their CRCs of that kind."""

    def __init__(self, known: Mapping[Shard, KnownCrc]) -> None:
        self.read_bytes = 0
        self._known = known
        self._ranges: dict[Shard, list[SourceRead]] = {}

    def add(self, place: Shard, start: int, view: memoryview) -> None:
        """One more range; neighbours become one, unless a part of the object ends between them."""
        known = self._known.get(place)
        if known is None:
            return
        for first, last in known.cut(start, start + len(view)):
            digits = compute_crc(known.kind, view[first - start : last - start])
            self._append(known, SourceRead(*place, first, last - first, known.kind, digits))

    def _append(self, known: KnownCrc, read: SourceRead) -> None:
        ranges = self._ranges.setdefault((read.checkpoint, read.shard), [])
        last = ranges[-1] if ranges else None
        if last is None or last.start + last.size != read.start or known.is_border(read.start):
            ranges.append(read)
            return
        pieces = [(last.digits, last.size), (read.digits, read.size)]
        digits = combine_crcs(known.kind, pieces)
        ranges[-1] = replace(last, size=last.size + read.size, digits=digits)

    @property
    def ranges(self) -> tuple[SourceRead, ...]:
        """All of them, by source and position."""
        return tuple(r for place in sorted(self._ranges) for r in self._ranges[place])


def _place(source: SourceTensor) -> tuple[int, str, int]:
    return source.checkpoint, source.shard, source.start
