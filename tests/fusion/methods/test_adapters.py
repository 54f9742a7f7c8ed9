"""What adapters add, element by element, beside the same operations written out in numpy."""

import itertools
import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from fusion.methods.adapters import add_product, concatenate, load_product
from fusion.plans.plan import TensorRequest
from fusion.plans.sources import Factor, LowRank, SourceTensor, factor_ranges

ROWS, COLUMNS, RANK = 6, 5, 3


def random(*shape, seed=0):
    return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


A, B, BASE = random(RANK, COLUMNS), random(ROWS, RANK, seed=1), random(ROWS, COLUMNS, seed=2)


def low_rank(a, b, *, is_transposed):
    factors = (Factor("adapter", 0, "F32", array.shape) for array in (a, b))
    return LowRank(1, *factors, 0.75, is_transposed)


def oracle(base, left, right):
    """In rank order, one rounding an operation, in float32."""
    total = left[:, :1] * right[0]
    for rank in range(1, left.shape[1]):
        total = total + left[:, rank : rank + 1] * right[rank]
    return base + total * np.float32(0.75)


def added(first, last, *, is_transposed=False):
    """Elements [first, last) as a worker computes them from the ranges that it read."""
    # Transposed, the tensor is [inputs, outputs]: A is [rank, ROWS] and B is [COLUMNS, rank].
    a, b = (B.T.copy(), A.T.copy()) if is_transposed else (A, B)
    pair = low_rank(a, b, is_transposed=is_transposed)
    ranges = factor_ranges(pair, first, last)
    views = [
        memoryview(bytearray(array[part.first : part.last].tobytes()))
        for array, part in zip((a, b), ranges, strict=True)
    ]
    product = load_product(pair, ranges, *views, dtype="F32")
    out = torch.empty(last - first)
    add_product(torch.from_numpy(BASE.reshape(-1)[first:last]), product, first, out)
    return out.numpy()


@pytest.mark.parametrize("is_transposed", [False, True])
@given(cuts=st.sets(st.integers(1, ROWS * COLUMNS - 1), max_size=5))
def test_any_cutting_has_the_bits_of_the_operations_written_out(is_transposed, cuts):
    borders = [0, *sorted(cuts), ROWS * COLUMNS]
    pieces = [
        added(first, last, is_transposed=is_transposed)
        for first, last in itertools.pairwise(borders)
    ]
    assert np.concatenate(pieces).tobytes() == oracle(BASE, B, A).tobytes()


def side_by_side(*, dtype="F32"):
    sources = tuple(SourceTensor(n, "s", 0, "F32") for n in range(2))
    return TensorRequest(
        name="b",
        shape=(ROWS, 5),
        dtype=dtype,
        work_dtype="F32",
        method="concatenate",
        weights=(0.5, -2.0),
        normalize=False,
        sources=sources,
        columns=(2, 3),
    )


LEFT, RIGHT = random(ROWS, 2, seed=3), random(ROWS, 3, seed=4)
TOGETHER = np.concatenate([LEFT * np.float32(0.5), RIGHT * np.float32(-2)], axis=1).reshape(-1)


def set_side_by_side(request, first, last, *, left=LEFT, right=RIGHT, dtype=torch.float32):
    out = torch.empty(last - first, dtype=dtype)
    inputs = [
        torch.from_numpy(array.reshape(-1)[slice(*request.span(index, first, last))].copy())
        for index, array in enumerate((left, right))
    ]
    largest = concatenate(request, inputs, first, out)
    return out, largest


@given(st.integers(0, 5 * ROWS), st.integers(0, 5 * ROWS))
def test_sources_stand_side_by_side_in_any_piece_each_times_its_weight(one, other):
    first, last = sorted((one, other))
    out, largest = set_side_by_side(side_by_side(), first, last)
    assert out.numpy().tobytes() == TOGETHER[first:last].tobytes()
    assert largest == max(map(abs, TOGETHER[first:last].tolist()), default=0.0)


def test_the_largest_value_is_seen_before_it_is_rounded():
    request = replace(side_by_side(dtype="BF16"))
    out, largest = set_side_by_side(request, 0, 5 * ROWS, dtype=torch.bfloat16)
    assert torch.equal(out, torch.from_numpy(TOGETHER).to(torch.bfloat16))
    assert largest == float(np.abs(TOGETHER).max())


@pytest.mark.parametrize("place", [(0, 0), (2, 1), (ROWS - 1, 1)])
def test_a_nan_anywhere_is_the_largest(place):
    left = LEFT.copy()
    left[place] = math.nan
    _, largest = set_side_by_side(side_by_side(), 0, 5 * ROWS, left=left)
    assert math.isnan(largest)
