"""Which ranges of an adapter's factors a piece of a tensor needs."""

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fusion.plans.sources import (
    Factor,
    LowRank,
    SourceTensor,
    base_indices,
    factor_ranges,
    first_seen,
    with_bases,
)
from tests.support.hand_made import make_checkpoint
from tests.support.hand_made_plans import two_adapters


def low_rank(*, is_transposed=False, rank=2, inputs=4, outputs=6, dtype="F32"):
    a = Factor("adapter_model.safetensors", 100, dtype, (rank, inputs))
    b = Factor("adapter_model.safetensors", 1000, dtype, (outputs, rank))
    return LowRank(1, a, b, 0.5, is_transposed)


def test_a_is_needed_whole_and_of_b_the_rows_of_the_elements():
    a, b = factor_ranges(low_rank(), 5, 9)  # rows 1 and 2 of four columns each
    assert (a.start, a.size) == (100, 2 * 4 * 4)
    assert (b.first, b.last, b.start, b.size) == (1, 3, 1000 + 8, 2 * 2 * 4)


def test_of_a_transposed_tensor_both_are_needed_whole():
    added = low_rank(is_transposed=True)
    a, b = factor_ranges(added, 5, 6)
    assert (a.first, a.last, b.first, b.last) == (0, 2, 0, 6)
    assert (added.columns, low_rank().columns, added.rank) == (6, 4, 2)


@pytest.mark.parametrize("is_transposed", [False, True])
@given(cuts=st.lists(st.integers(1, 23), max_size=6))
def test_over_any_cutting_each_byte_of_both_factors_is_first_seen_once(is_transposed, cuts):
    added = low_rank(is_transposed=is_transposed)
    borders = sorted({0, 24, *cuts})
    rows = {"a": [], "b": []}
    for first, last in itertools.pairwise(borders):
        a, b = first_seen(added, first, last)
        rows["a"] += range(a.first, a.last)
        rows["b"] += range(b.first, b.last)
    assert rows == {"a": [0, 1], "b": [0, 1, 2, 3, 4, 5]}


@pytest.mark.parametrize(
    ("dtype", "factors", "value"),
    [("BF16", None, "BF16"), ("BF16", "BF16", "F32"), ("F32", "F64", "F64"), ("F64", "F32", "F64")],
)
def test_what_is_added_to_is_a_value_of_float32_or_wider(dtype, factors, value):
    added = low_rank(dtype=factors) if factors else None
    source = SourceTensor(0, "model.safetensors", 0, dtype, added)
    assert source.value_dtype == value
    assert source.owner == (0 if added is None else 1)


def test_a_base_of_several_adapters_is_there_once_after_them():
    adapters, whole = two_adapters(), make_checkpoint("whole", {"x.weight": (6, 4)})
    places = with_bases([*adapters, whole])
    assert places == (*adapters, whole, adapters[0].adapter.base)
    assert base_indices(places) == (3, 3, 2, 3)
