"""What a merge reads, computes and writes, as one value: printed, hashed, compared, resumed."""

import json
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from fusion.canonical import digest, to_json
from fusion.checkpoint import Checkpoint, checkpoint_digest, model_tensors
from fusion.dtypes import FLOATS, ITEM_BYTES, parse_dtype, promote
from fusion.errors import MethodError, WeightError
from fusion.header import format_header
from fusion.method_specs import CONCATENATE, COPY, METHOD_SPECS
from fusion.sources import (
    FactorRange,
    SourceTensor,
    base_indices,
    factor_ranges,
    find_source,
    with_bases,
)

# 64 MiB: large enough that requests cost nothing, small enough that a lost one is soon redone.
UNIT_BYTES = 64 << 20
SHARD_BYTES = 5_000_000_000
MAX_PARTS = 10_000


@dataclass(frozen=True, slots=True)
class TensorRequest:
    """One output tensor and how it is made.

    Attributes:
        name: as written.
        shape: of the output and of every source.
        dtype: of the output.
        work_dtype: inputs are cast to it on load and the result is rounded to it, then to `dtype`.
        method: a name of METHODS; "copy" for tensors that must be equal everywhere.
        weights: one a source.
        normalize: divide by the sum of the weights.
        sources: in the order in which terms are added.
        columns: of each source where the method sets sources side by side; the output has as many
            in a row as all together. () where all sources have the output's shape.
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
        checkpoints: the candidates, then the bases of those that are adapters.
        tensors: of the output.
        weights: one a candidate, for the records; what counts is in the tensors.
        stem: of the names of the output's shards.
    """

    checkpoints: tuple[Checkpoint, ...]
    tensors: tuple[TensorRequest, ...]
    weights: tuple[float, ...] = ()
    stem: str = "model"

    @property
    def candidates(self) -> tuple[Checkpoint, ...]:
        """The checkpoints that are merged."""
        return self.checkpoints[: len(self.weights)]

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


def linear_request(
    checkpoints: Sequence[Checkpoint], weights: Sequence[float], *, dtype: str | None
) -> MergeRequest:
    """The weighted average of checkpoints that agree (see `check_agree`).

    Tensors come in the file order of the first checkpoint. Floating tensors are averaged in the
    smallest dtype that holds all inputs and the output, rounding once; others are copied. What an
    adapter adds to its base is added in float32 or wider; a tensor of the base that none changes
    keeps its value.

    Args:
        checkpoints: n of them.
        weights: n finite numbers whose sum is not 0; they are divided by it.
        dtype: of the floating outputs, such as "bfloat16"; None keeps that of the inputs.

    Raises:
        WeightError: number, value or sum of the weights.
    """
    check_weights(weights, len(checkpoints))
    wanted = parse_dtype(dtype) if dtype else None
    places = with_bases(checkpoints)
    bases = base_indices(places)
    tables = [{tensor.name: tensor for tensor in model_tensors(c)} for c in checkpoints]
    tensors = []
    for first in model_tensors(checkpoints[0]):
        sources = tuple(
            find_source(places, index, table[first.name], bases=bases)
            for index, table in enumerate(tables)
        )
        floating = first.dtype in FLOATS
        inputs = [source.dtype for source in sources]
        output = (wanted or promote(inputs)) if floating else first.dtype
        values = [source.value_dtype for source in sources]
        is_one = len(set(sources)) == 1  # a tensor of the base that no adapter changes
        tensors.append(
            TensorRequest(
                name=first.name,
                shape=first.shape,
                dtype=output,
                work_dtype=promote([*values, output]) if floating else first.dtype,
                method="linear" if floating else COPY,
                weights=(1.0,) if is_one else tuple(map(float, weights)),
                normalize=True,
                sources=sources[:1] if is_one else sources,
            )
        )
    return MergeRequest(places, tuple(tensors), tuple(map(float, weights)))


def check_weights(weights: Sequence[float], num_sources: int) -> None:
    """Refuse weights that give no average.

    Raises:
        WeightError: not one finite number a source, or a sum of 0.
    """
    if len(weights) != num_sources or not all(map(math.isfinite, weights)):
        raise WeightError(f"{num_sources} finite weights are needed, found {list(weights)}")
    if abs(math.fsum(weights)) < 1e-12:
        raise WeightError(
            f"the weights {list(weights)} sum to 0, their average does not exist",
            "change a weight, or set normalize: false",
        )


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


def find_pieces(plan: MergePlan, unit: MergeUnit) -> Iterator[Piece]:
    """The tensors that a unit touches, in file order; empty tensors are left out."""
    for placed in plan.shards[unit.shard].tensors:
        low, high = max(unit.start, placed.start), min(unit.end, placed.end)
        if low < high:
            item = ITEM_BYTES[placed.tensor.dtype]
            first = (low - placed.start) // item
            last = -((placed.start - high) // item)
            yield Piece(placed, first, last)


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
