"""The weighted average of blocks: sums as given or divided, and what cannot be a number."""

import math

import pytest
import torch

from fusion.methods.linear import weighted_sum
from fusion.plans.plan import TensorRequest
from fusion.plans.sources import SourceTensor


def request(weights, *, normalize):
    sources = tuple(SourceTensor(n, "s", 0, "F32") for n in range(len(weights)))
    return TensorRequest(
        name="x",
        shape=(3,),
        dtype="F32",
        work_dtype="F32",
        method="linear",
        weights=weights,
        normalize=normalize,
        sources=sources,
    )


ONE, OTHER = torch.tensor([1.0, 2.0, -4.0]), torch.tensor([3.0, -2.0, 0.0])


@pytest.mark.parametrize(
    ("normalize", "result"), [(False, [4.0, 0.0, -4.0]), (True, [2.0, 0.0, -2.0])]
)
def test_weights_are_divided_by_their_sum_only_where_that_is_asked(normalize, result):
    out = torch.empty(3)
    largest = weighted_sum(request((1.0, 1.0), normalize=normalize), [ONE, OTHER], out)
    assert out.tolist() == result
    assert largest == max(map(abs, result))


def test_a_nan_is_the_largest_of_all():
    out = torch.empty(3)
    broken = torch.tensor([0.0, math.nan, 1e30])
    assert math.isnan(weighted_sum(request((1.0, 1.0), normalize=True), [ONE, broken], out))


def test_infinity_is_told_as_it_is():
    out = torch.empty(3)
    broken = torch.tensor([0.0, -math.inf, 1.0])
    assert weighted_sum(request((1.0, 1.0), normalize=True), [ONE, broken], out) == math.inf
