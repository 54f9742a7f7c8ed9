"""The weighted average of blocks: sums as given or divided, and what cannot be a number."""

import math
from dataclasses import replace

import pytest
import torch

from fusion.methods.contract import TORCH_DTYPES
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


@pytest.mark.parametrize(("dtype", "large"), [("F32", 3e38), ("F64", 1.5e308)])
def test_an_average_that_fits_is_found_though_its_sum_does_not(dtype, large):
    kind = TORCH_DTYPES[dtype]
    ask = replace(request((1.0, 1.0, 1.0), normalize=True), dtype=dtype, work_dtype=dtype)
    inputs = [torch.tensor([large, 1.0, -large], dtype=kind) for _ in range(3)]
    out = torch.empty(3, dtype=kind)
    largest = weighted_sum(ask, inputs, out)
    assert math.isclose(largest, large, rel_tol=1e-6)
    assert torch.allclose(out, inputs[0], rtol=1e-6)
    assert out[1] == 1.0


def test_what_is_computed_again_depends_on_no_neighbour():
    """Elements that fit have the same bits beside one that overflows on the way."""
    generator = torch.Generator().manual_seed(0)
    inputs = [torch.randn(300_000, generator=generator) for _ in range(3)]
    ask = request((0.3, 0.5, 0.9), normalize=True)
    calm, beside = torch.empty(300_000), torch.empty(300_000)
    weighted_sum(ask, inputs, calm)
    for tensor in inputs:
        tensor[1000] = 3.2e38
    weighted_sum(ask, inputs, beside)
    calm[1000] = beside[1000]
    assert torch.equal(calm, beside)
    assert math.isclose(float(beside[1000]), 3.2e38, rel_tol=1e-6)


@pytest.mark.parametrize("normalize", [False, True])
def test_zeros_keep_their_sign(normalize):
    zeros = torch.tensor([-0.0, 0.0, -0.0])
    out = torch.empty(3)
    weighted_sum(request((0.5, 0.25), normalize=normalize), [zeros, zeros], out)
    assert torch.signbit(out).tolist() == [True, False, True]


def test_an_average_with_an_infinite_source_stays_infinite():
    out = torch.empty(3)
    broken = torch.tensor([3e38, math.inf, 1.0])
    largest = weighted_sum(request((1.0, 1.0), normalize=True), [broken, broken], out)
    assert largest == math.inf
    assert out[0] == broken[0]
