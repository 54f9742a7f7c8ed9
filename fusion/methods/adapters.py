"""What adapters add, and adapters side by side: arithmetic that no cutting and no host changes.

Shape legend: R rows and C columns of the tensor, K the rank, e elements of a chunk.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch

from fusion.methods.blocks import BLOCK_ELEMENTS
from fusion.methods.contract import TORCH_DTYPES
from fusion.plans.plan import TensorRequest
from fusion.plans.sources import FactorRange, LowRank


@dataclass(frozen=True, slots=True, eq=False)
class Product:
    """scale * left @ right, for rows of a tensor from `first_row` on.

    Attributes:
        left_RK: left factor [rows, rank]: one row for each row of the tensor.
        right_KC: right factor [rank, columns], contiguous.
        scale: factor of the product.
        first_row: row of the tensor that `left_RK` begins with.
    """

    left_RK: torch.Tensor  # noqa: N815  # shape letters
    right_KC: torch.Tensor  # noqa: N815  # shape letters
    scale: float
    first_row: int


def load_product(
    added: LowRank, ranges: tuple[FactorRange, FactorRange], a: memoryview, b: memoryview,
    *, dtype: str,
) -> Product:  # fmt: skip
    """The factors that were read, in the dtype of the sum.

    Args:
        added: what the adapter adds to the tensor.
        ranges: ranges of A and of B, as `factor_ranges` gives them.
        a: bytes of the range of A.
        b: bytes of the range of B.
        dtype: dtype of the sum: F32 or F64.
    """
    wide = TORCH_DTYPES[dtype]
    a_KI, b_OK = (  # noqa: N806  # shape letters
        torch.frombuffer(view, dtype=TORCH_DTYPES[part.factor.dtype])
        .reshape(-1, part.factor.shape[1])
        .to(wide)
        for view, part in zip((a, b), ranges, strict=True)
    )
    if added.is_transposed:
        return Product(a_KI.T.contiguous(), b_OK.T.contiguous(), added.scale, 0)
    return Product(b_OK, a_KI, added.scale, ranges[1].first)


def add_product(base: torch.Tensor, product: Product, first: int, out: torch.Tensor) -> None:
    """Fill `out` with base + scale * (left @ right) for elements of a tensor from `first` on.

    The product is summed in rank order, one rounded multiplication and one rounded addition a
    rank, then times the scale, then plus the base: four operations of IEEE arithmetic with one
    result each, so the bits depend neither on the cutting nor on the processor. (A matrix product
    is ten times as fast, and its bits depend on both.)

    Args:
        base: [e] elements of the base, in the base's dtype.
        product: product whose rows cover the elements.
        first: index in the tensor of the first element of `base`.
        out: [e] float32, or float64 where base or factors are float64.

    Error: at most (rank + 3) units of the sum's precision, times |base| + |scale| sum_k |b a|.
    """
    columns = product.right_KC.shape[1]
    rows = max(1, BLOCK_ELEMENTS // columns)
    end = first + out.numel()
    total_RC = torch.empty(rows, columns, dtype=out.dtype)  # noqa: N806  # shape letters
    term_RC = torch.empty_like(total_RC)  # noqa: N806  # shape letters
    for row in range(first // columns, -(-end // columns), rows):
        last_row = min(row + rows, -(-end // columns))
        left = product.left_RK[row - product.first_row : last_row - product.first_row]
        total, term = total_RC[: len(left)], term_RC[: len(left)]
        torch.mul(left[:, :1], product.right_KC[0], out=total)
        for rank in range(1, left.shape[1]):
            torch.mul(left[:, rank : rank + 1], product.right_KC[rank], out=term)
            total.add_(term)
        total.mul_(product.scale)
        low, high = max(first, row * columns), min(end, last_row * columns)
        part = total.view(-1)[low - row * columns : high - row * columns]
        torch.add(base[low - first : high - first], part, out=out[low - first : high - first])


def concatenate(
    request: TensorRequest, inputs: Sequence[torch.Tensor], first: int, out: torch.Tensor
) -> float:
    """Fill `out` with sources side by side, each times its weight, rounding once.

    Args:
        request: weights, columns and dtypes; its method is "concatenate".
        inputs: for each source the elements of `request.span`.
        first: index in the tensor of the first element of `out`.
        out: [e] in the output dtype.

    Returns:
        Largest magnitude before the last rounding; nan if there is one.
    """
    wide = TORCH_DTYPES[request.work_dtype]
    columns = sum(request.columns)
    largest = 0.0
    end = first + out.numel()
    for low, high in _row_spans(first, end, columns):
        target = out[low - first : high - first]
        offset = 0
        for index, own in enumerate(request.columns):
            start = request.span(index, first, end)[0]
            begin, stop = (bound - start for bound in request.span(index, low, high))
            values = inputs[index][begin:stop].to(wide) * request.weights[index]
            if stop > begin:
                found = float(values.abs().max())
                largest = math.nan if math.isnan(found + largest) else max(largest, found)
            if high - low >= columns:
                target.view(-1, columns)[:, offset : offset + own] = values.view(-1, own)
            else:
                place = max(offset, low % columns) - low % columns
                target[place : place + stop - begin] = values
            offset += own
    return largest


def _row_spans(first: int, end: int, columns: int) -> list[tuple[int, int]]:
    """[first, end) as the rest of a row, whole rows, and the beginning of a row."""
    head = min(end, -(-first // columns) * columns)
    tail = max(head, end // columns * columns)
    return [(a, b) for a, b in ((first, head), (head, tail), (tail, end)) if a < b]
