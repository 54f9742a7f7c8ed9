"""What a merge reads, computes and writes, as one value: printed, hashed, compared, resumed."""

import math
from collections.abc import Iterator
from dataclasses import dataclass

from fusion.checkpoints.checkpoint import Checkpoint
from fusion.dtypes import ITEM_BYTES
from fusion.plans.method_specs import DEFAULT_METHOD
from fusion.plans.sources import (
    FactorRange,
    SourceTensor,
    factor_ranges,
)


@dataclass(frozen=True, slots=True)
class TensorRequest:
    """One output tensor and how it is made.

    Attributes:
        name: name of the output tensor, as written.
        shape: shape of the output, and of every source where `columns` is ().
        dtype: dtype of the output.
        work_dtype: dtype that inputs are cast to on load; the result is rounded to it, then to
            `dtype`.
        method: a name of METHODS; "copy" for tensors that must be equal everywhere.
        weights: one weight for each source.
        normalize: whether the result is divided by the sum of the weights.
        sources: sources in the order in which their terms are added.
        columns: columns of each source where the method sets sources side by side; a row of the
            output has as many as all sources together. () where all sources have the output's
            shape.
    """

    name: str
    shape: tuple[int, ...]
    dtype: str
    work_dtype: str
    method: str
    weights: tuple[float, ...]
    normalize: bool
    sources: tuple[SourceTensor, ...]
    columns: tuple[int, ...] = ()

    @property
    def distinct(self) -> tuple[int, ...]:
        """Indices of the sources to be read: adapters of one base share its bytes."""
        places: dict[tuple[int, str, int], int] = {}
        for index, source in enumerate(self.sources):
            places.setdefault((source.checkpoint, source.shard, source.start), index)
        return tuple(places.values())

    def span(self, index: int, first: int, last: int) -> tuple[int, int]:
        """The elements of a source that make elements [first, last) of the output."""
        if not self.columns:
            return first, last
        before, own, all_columns = sum(self.columns[:index]), self.columns[index], sum(self.columns)

        def count(element: int) -> int:
            row, column = divmod(element, all_columns)
            return row * own + min(max(column - before, 0), own)

        return count(first), count(last)


@dataclass(frozen=True, slots=True)
class MergeRequest:
    """What is asked for: output tensors over pinned checkpoints, in output order.

    Attributes:
        checkpoints: the candidates, then the bases of those candidates that are adapters.
        tensors: tensors of the output.
        weights: one weight for each candidate, for the records; the merge uses those in `tensors`.
        stem: beginning of the names of the output's shards.
        method: method that merges the floating tensors, for the records; the merge uses those in
            `tensors`.
        donor: index in `checkpoints` of the one whose config, tokenizer and other files go with
            the output; an adapter's are those of its base.
    """

    checkpoints: tuple[Checkpoint, ...]
    tensors: tuple[TensorRequest, ...]
    weights: tuple[float, ...] = ()
    stem: str = "model"
    method: str = DEFAULT_METHOD
    donor: int = 0

    @property
    def candidates(self) -> tuple[Checkpoint, ...]:
        """The checkpoints that are merged."""
        return self.checkpoints[: len(self.weights)]

    @property
    def giver(self) -> Checkpoint:
        """The checkpoint whose files go with the output."""
        donor = self.checkpoints[self.donor]
        return donor if donor.adapter is None else donor.adapter.base

    @property
    def base(self) -> Checkpoint | None:
        """The base of the candidates that are adapters; None where none is."""
        return next((c.adapter.base for c in self.candidates if c.adapter is not None), None)


@dataclass(frozen=True, slots=True)
class PlacedTensor:
    """An output tensor and the bytes it takes in its shard, [start, end)."""

    tensor: TensorRequest
    start: int
    end: int


@dataclass(frozen=True, slots=True)
class OutputShard:
    """One file of the output: `header` bytes, then the tensors without holes."""

    name: str
    size: int
    header: bytes
    tensors: tuple[PlacedTensor, ...]


@dataclass(frozen=True, slots=True)
class MergeUnit:
    """The smallest piece computed, written and retried: bytes [start, end) of one output shard.

    `number` counts from 1 in its shard; on S3 it is the part number.
    """

    shard: int
    number: int
    start: int
    end: int

    @property
    def id(self) -> str:
        """Name in the ledger, such as 00001-00003."""
        return f"{self.shard + 1:05d}-{self.number:05d}"


@dataclass(frozen=True, slots=True)
class MergePlan:
    """All that decides the output bytes, and how they are cut.

    `id` is the sha256 of the content: pins of the sources, tensors, weights, cutting. Neither
    workers nor memory are in it, so a merge can be resumed with others.
    """

    id: str
    request: MergeRequest
    shards: tuple[OutputShard, ...]
    unit_bytes: int

    @property
    def short(self) -> str:
        """First 12 digits of the id, used in names."""
        return self.id[:12]

    @property
    def units(self) -> tuple[MergeUnit, ...]:
        """All units in order."""
        return tuple(
            MergeUnit(index, number + 1, start, min(start + self.unit_bytes, shard.size))
            for index, shard in enumerate(self.shards)
            for number, start in enumerate(range(0, shard.size, self.unit_bytes))
        )

    @property
    def write_bytes(self) -> int:
        """Bytes of all output shards."""
        return sum(shard.size for shard in self.shards)

    @property
    def read_bytes(self) -> int:
        """Tensor bytes read from all sources."""
        return sum(map(sum, self._sizes())) + sum(part.size for part in self._factors())

    def num_reads(self, chunk_bytes: int) -> int:
        """Ranged reads of at most `chunk_bytes` each, retries not counted."""
        chunks = sum(math.ceil(size / chunk_bytes) for sizes in self._sizes() for size in sizes)
        return chunks + sum(1 for _ in self._factors())

    def _sizes(self) -> Iterator[list[int]]:
        """Bytes of every source that is read, by tensor."""
        for tensor in self.request.tensors:
            count = math.prod(tensor.shape)
            yield [
                tensor.span(index, 0, count)[1] * ITEM_BYTES[tensor.sources[index].dtype]
                for index in tensor.distinct
            ]

    def _factors(self) -> Iterator[FactorRange]:
        """What every unit reads of the factors of adapters."""
        if any(source.added for tensor in self.request.tensors for source in tensor.sources):
            for unit in self.units:
                for piece in find_pieces(self, unit):
                    for source in piece.placed.tensor.sources:
                        if source.added is not None:
                            yield from factor_ranges(source.added, piece.first, piece.last)


@dataclass(frozen=True, slots=True)
class Piece:
    """Elements [first, last) of a tensor, of which a unit writes bytes.

    An element that straddles a unit's border is in the pieces of both units; each writes its part.
    """

    placed: PlacedTensor
    first: int
    last: int


def find_pieces(plan: MergePlan, unit: MergeUnit) -> Iterator[Piece]:
    """The tensors that a unit touches, in file order; empty tensors are left out."""
    for placed in plan.shards[unit.shard].tensors:
        low, high = max(unit.start, placed.start), min(unit.end, placed.end)
        if low < high:
            item = ITEM_BYTES[placed.tensor.dtype]
            first = (low - placed.start) // item
            last = -((placed.start - high) // item)
            yield Piece(placed, first, last)
