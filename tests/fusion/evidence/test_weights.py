import math
from decimal import Decimal, getcontext

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fusion.errors import WeightError
from fusion.evidence.weights import (
    effective_models,
    fixed_weights,
    softmax_weights,
    uniform_weights,
)

LOSSES = st.lists(st.floats(-50, 50), min_size=1, max_size=12)


@given(LOSSES, st.floats(0.01, 100))
def test_softmax_is_the_formula(losses, temperature):
    getcontext().prec = 60
    raw = [(Decimal(-loss) / Decimal(temperature)).exp() for loss in losses]
    expected = [float(value / sum(raw)) for value in raw]
    found = softmax_weights(losses, temperature=temperature)
    for ours, exact in zip(found, expected, strict=True):
        assert math.isclose(ours, exact, rel_tol=1e-10, abs_tol=1e-300)


@given(LOSSES, st.floats(-1e6, 1e6))
def test_only_differences_count(losses, shift):
    moved = [round(loss, 3) + round(shift) for loss in losses]
    still = [round(loss, 3) for loss in losses]
    pairs = zip(softmax_weights(moved), softmax_weights(still), strict=True)
    assert all(math.isclose(a, b, rel_tol=1e-6, abs_tol=1e-12) for a, b in pairs)


@given(LOSSES)
def test_weights_sum_to_one_and_lower_losses_weigh_more(losses):
    weights = softmax_weights(losses)
    assert math.isclose(math.fsum(weights), 1.0, rel_tol=1e-12)
    order = sorted(range(len(losses)), key=lambda i: losses[i])
    ranked = [weights[i] for i in order]
    assert ranked == sorted(ranked, reverse=True)


def test_nothing_overflows():
    assert softmax_weights([0.0, 1e300, -1e300]) == (0.0, 0.0, 1.0)
    assert softmax_weights([1e308, 1e308]) == (0.5, 0.5)


def test_the_limits_of_temperature():
    assert softmax_weights([1.0, 2.0, 1.0], temperature=0) == (0.5, 0.0, 0.5)
    assert softmax_weights([1.0, 2.0], temperature=math.inf) == (0.5, 0.5)
    with pytest.raises(ValueError, match="temperature"):
        softmax_weights([1.0], temperature=-1)


@pytest.mark.parametrize("losses", [[], [1.0, math.nan], [math.inf]])
def test_losses_that_are_not_numbers_are_refused(losses):
    with pytest.raises(WeightError):
        softmax_weights(losses)


def test_an_average_of_nothing_is_refused():
    with pytest.raises(WeightError, match="at least one model"):
        uniform_weights(0)


def test_fixed_weights_name_what_is_missing_and_what_is_too_much():
    assert fixed_weights(["a", "b"], {"a": 1, "b": 3}) == (0.25, 0.75)
    with pytest.raises(WeightError, match=r"no weight for 'seed-2'.*did you mean 'seed-2'"):
        fixed_weights(["seed-1", "seed-2"], {"seed-1": 1, "sed-2": 1})
    with pytest.raises(WeightError, match="sum to 0"):
        fixed_weights(["a", "b"], {"a": 1, "b": -1})


@given(st.integers(1, 50))
def test_equal_weights_have_as_many_effective_models_as_models(count):
    assert math.isclose(effective_models(uniform_weights(count)), count, rel_tol=1e-9)
