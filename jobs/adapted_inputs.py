"""The inputs of a chunk as tensors, with what adapters add to their bases."""

from collections.abc import Mapping

import torch

from fusion.adapter_kernel import Product, add_product, load_product
from fusion.methods import TORCH_DTYPES
from fusion.plan import Piece
from jobs.chunks import ReadChunk


class AdaptedInputs:
    """Keeps the factors of the piece in work, and buffers. Used by one thread at a time."""

    def __init__(self) -> None:
        self._piece: Piece | None = None
        self._products: Mapping[int, Product] = {}
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
