"""The inputs of a chunk as tensors, with what adapters add to their bases."""

from collections.abc import Mapping, Sequence

import torch

from fusion.checkpoints.checkpoint import Checkpoint
from fusion.errors import NonFiniteError
from fusion.methods import TORCH_DTYPES
from fusion.methods.adapters import Product, add_product, load_product
from fusion.plans.plan import Piece
from jobs.merge.chunks import Chunk, ReadChunk


class AdaptedInputs:
    """Keeps the factors of the piece in work, and buffers. Used by one thread at a time."""

    def __init__(self) -> None:
        self._piece: Piece | None = None
        self._products: Mapping[int, Product] = {}
        self._bases: list[tuple[int, torch.Tensor]] = []
        self._buffers: dict[tuple[int, torch.dtype], torch.Tensor] = {}

    def fill(self, read: ReadChunk) -> list[torch.Tensor]:
        """One tensor [e] a source: its bytes as they are, or base plus product in a wide dtype.

        What is returned is valid until the next call.
        """
        tensor = read.chunk.placed.tensor
        inputs = [
            torch.frombuffer(view, dtype=TORCH_DTYPES[source.dtype])
            if view
            else torch.empty(0, dtype=TORCH_DTYPES[source.dtype])
            for source, view in zip(tensor.sources, read.inputs, strict=True)
        ]
        self._bases = [(index, inputs[index]) for index in read.factors]
        if not read.factors:
            return inputs
        if self._piece is not read.chunk.piece:
            self._piece, self._products = read.chunk.piece, _load(read)
        for index, product in self._products.items():
            wide = TORCH_DTYPES[tensor.sources[index].value_dtype]
            out = self._buffer(index, wide, read.chunk.last - read.chunk.first)
            add_product(inputs[index], product, read.chunk.first, out)
            inputs[index] = out
        return inputs

    def check_bases(self, chunk: Chunk, checkpoints: Sequence[Checkpoint]) -> None:
        """Refuse a base of the last chunk that is not finite: no adapter is to blame for that.

        Raises:
            NonFiniteError: names no candidate, so none is left out for it.
        """
        tensor = chunk.placed.tensor
        for index, values in self._bases:
            bad = int((~torch.isfinite(values)).sum())
            if bad:
                base = checkpoints[tensor.sources[index].checkpoint]
                raise NonFiniteError(
                    f"{tensor.name} of the base {base.name} ({base.uri}) has {bad} NaN or infinite "
                    f"values among elements {chunk.first} to {chunk.last}. Nothing was published.",
                    "name a base that is whole",
                    "",
                    tensor.name,
                )

    def _buffer(self, index: int, dtype: torch.dtype, count: int) -> torch.Tensor:
        kept = self._buffers.get((index, dtype))
        if kept is None or kept.numel() < count:
            kept = torch.empty(count, dtype=dtype)
            self._buffers[index, dtype] = kept
        return kept[:count]


def _load(read: ReadChunk) -> Mapping[int, Product]:
    products = {}
    for index, factors in read.factors.items():
        source = read.chunk.placed.tensor.sources[index]
        assert source.added is not None
        products[index] = load_product(
            source.added, factors.ranges, factors.a, factors.b, dtype=source.value_dtype
        )
    return products
