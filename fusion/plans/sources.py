"""Where the inputs of a merge lie: tensors of checkpoints, and factors that adapters add."""

from collections.abc import Sequence
from dataclasses import dataclass

from fusion.checkpoints.checkpoint import Checkpoint, TensorSpec, checkpoint_digest
from fusion.dtypes import ITEM_BYTES


@dataclass(frozen=True, slots=True)
class Factor:
    """Where one factor of an adapter lies: a matrix in a file of the adapter's checkpoint."""

    shard: str
    start: int
    dtype: str
    shape: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class LowRank:
    """What an adapter adds to a tensor: `scale` times B times A.

    Attributes:
        checkpoint: index of the adapter in `MergeRequest.checkpoints`.
        a: factor A, [rank, inputs].
        b: factor B, [outputs, rank].
        scale: factor of the product.
        is_transposed: whether the tensor is [inputs, outputs], so that the product's transpose is
            added.
    """

    checkpoint: int
    a: Factor
    b: Factor
    scale: float
    is_transposed: bool

    @property
    def rank(self) -> int:
        """Rows of A."""
        return self.a.shape[0]

    @property
    def columns(self) -> int:
        """Of the tensor."""
        return self.b.shape[0] if self.is_transposed else self.a.shape[1]


@dataclass(frozen=True, slots=True)
class SourceTensor:
    """Where one input of an output tensor lies.

    Attributes:
        checkpoint: index of the checkpoint in `MergeRequest.checkpoints`.
        shard: name of the file inside the checkpoint.
        start: byte offset of the first element in the shard.
        dtype: dtype in the shard, by its safetensors name.
        added: what an adapter adds to the values; None for values as they are.
    """

    checkpoint: int
    shard: str
    start: int
    dtype: str
    added: LowRank | None = None

    @property
    def value_dtype(self) -> str:
        """The dtype of the values that go into the merge: float32 or wider after an addition."""
        if self.added is None:
            return self.dtype
        kinds = (self.dtype, self.added.a.dtype, self.added.b.dtype)
        return "F64" if "F64" in kinds else "F32"

    @property
    def owner(self) -> int:
        """Index of the checkpoint that these values stand for."""
        return self.checkpoint if self.added is None else self.added.checkpoint


@dataclass(frozen=True, slots=True)
class FactorRange:
    """Rows [first, last) of a factor, as stored."""

    factor: Factor
    first: int
    last: int

    @property
    def start(self) -> int:
        """Byte offset in the factor's file."""
        return self.factor.start + self.first * self._row_bytes

    @property
    def size(self) -> int:
        """Bytes."""
        return (self.last - self.first) * self._row_bytes

    @property
    def _row_bytes(self) -> int:
        return self.factor.shape[1] * ITEM_BYTES[self.factor.dtype]


def factor_ranges(added: LowRank, first: int, last: int) -> tuple[FactorRange, FactorRange]:
    """What of A and B the elements [first, last) of a tensor need.

    A is needed whole, and of B the rows of the elements. Both are needed whole where the tensor is
    transposed: its rows are columns of A.
    """
    a = FactorRange(added.a, 0, added.a.shape[0])
    if added.is_transposed:
        return a, FactorRange(added.b, 0, added.b.shape[0])
    return a, FactorRange(added.b, first // added.columns, -(-last // added.columns))


def first_seen(added: LowRank, first: int, last: int) -> tuple[FactorRange, FactorRange]:
    """What of A and B the elements [first, last) are the first to read, if read in order.

    Over any cutting of a tensor into such ranges, every byte of both factors is in one of them.
    """
    a, b = factor_ranges(added, first, last)
    if first:
        a = FactorRange(a.factor, 0, 0)
        rows = 0 if added.is_transposed else b.last
        start = 0 if added.is_transposed else -(-first // added.columns)
        b = FactorRange(b.factor, start, rows)
    return a, b


def with_bases(checkpoints: Sequence[Checkpoint]) -> tuple[Checkpoint, ...]:
    """The checkpoints, then the bases of those that are adapters, each base once."""
    bases: dict[str, Checkpoint] = {}
    for checkpoint in checkpoints:
        if checkpoint.adapter is not None:
            base = checkpoint.adapter.base
            bases.setdefault(checkpoint_digest(base), base)
    return (*checkpoints, *bases.values())


def base_indices(checkpoints: Sequence[Checkpoint]) -> tuple[int, ...]:
    """The index of each checkpoint's base; a whole checkpoint has its own index."""
    digests = [checkpoint_digest(checkpoint) for checkpoint in checkpoints]
    places = {digest: index for index, digest in enumerate(digests)}
    return tuple(
        places[checkpoint_digest(c.adapter.base)] if c.adapter is not None else index
        for index, c in enumerate(checkpoints)
    )


def find_source(
    checkpoints: Sequence[Checkpoint], index: int, spec: TensorSpec, *, bases: Sequence[int]
) -> SourceTensor:
    """Where the tensor `spec` of the model `checkpoints[index]` lies.

    Args:
        checkpoints: as `with_bases` gives them.
        index: index of the candidate in `checkpoints`.
        spec: the tensor, one of the candidate's `model_tensors`.
        bases: `base_indices` of the checkpoints.
    """
    adapter = checkpoints[index].adapter
    if adapter is None:
        return SourceTensor(index, spec.shard, spec.start, spec.dtype)
    place = index if spec.name in adapter.saved else bases[index]
    adapted = adapter.adapted.get(spec.name)
    if adapted is None:
        return SourceTensor(place, spec.shard, spec.start, spec.dtype)
    a, b = (Factor(f.shard, f.start, f.dtype, f.shape) for f in (adapted.a, adapted.b))
    added = LowRank(index, a, b, adapted.scale, adapted.is_transposed)
    return SourceTensor(place, spec.shard, spec.start, spec.dtype, added)
