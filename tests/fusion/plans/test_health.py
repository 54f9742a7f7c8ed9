import dataclasses
import math
from fractions import Fraction

import pytest
import torch
from hypothesis import example, given
from hypothesis import strategies as st

from fusion.canonical import from_json, to_json
from fusion.methods.block_sums import block_sums, make_scratch
from fusion.plans.health import (
    BLOCK_ELEMENTS,
    LARGEST_TERM,
    ModelHealth,
    PieceSums,
    add_exactly,
    describe_model,
    is_sampled,
    join_pieces,
    kept,
    value_of,
)

TERMS = st.floats(-LARGEST_TERM, LARGEST_TERM, allow_nan=False)
SIZES = st.integers(0, 1 << 40)


@st.composite
def piece_of(draw, num_sources=2):
    def exact():
        return add_exactly(draw(st.lists(TERMS, max_size=6)))

    sampled = draw(SIZES)
    return PieceSums(
        "x",
        sampled + draw(SIZES),
        sampled,
        draw(st.floats(0, 1e300)),
        exact(),
        tuple(exact() for _ in range(num_sources)),
        tuple(exact() for _ in range(num_sources)),
    )


@given(st.lists(TERMS, max_size=40), st.randoms(use_true_random=False))
@example([1e300, 1.0, -1e300], None)
def test_sums_do_not_depend_on_order_or_grouping(terms, random):
    whole = add_exactly(terms)
    assert sum(map(Fraction, whole)) == sum(map(Fraction, terms))
    shuffled = list(terms)
    if random is not None:
        random.shuffle(shuffled)
    cut = len(terms) // 3
    halves = add_exactly(shuffled[:cut]) + add_exactly(shuffled[cut:])
    assert add_exactly(halves) == whole
    assert value_of(whole) == math.fsum(terms)


@given(piece_of(), piece_of(), piece_of())
def test_pieces_join_to_the_same_in_any_grouping(a, b, c):
    left = join_pieces(join_pieces(a, b), c)
    assert left == join_pieces(a, join_pieces(b, c)) == join_pieces(join_pieces(c, a), b)


def test_a_sum_too_large_to_be_added_up_is_unknown_in_any_grouping():
    unknown = kept(LARGEST_TERM * 2)
    for terms in ([unknown, 1.0], [1.0, math.inf, -math.inf]):
        assert math.isnan(value_of(add_exactly(terms)))
    assert math.isnan(value_of(add_exactly((*add_exactly([unknown]), 2.0))))


def test_pieces_of_different_tensors_are_not_joined():
    piece = PieceSums("x", 1, 1, 1.0, (1.0,), ((1.0,),), ((1.0,),))
    with pytest.raises(ValueError, match="x and y"):
        join_pieces(piece, dataclasses.replace(piece, tensor="y"))


def test_the_first_block_of_every_tensor_is_sampled_and_one_in_32_of_the_others():
    names = [f"model.layers.{i}.mlp.down_proj.weight" for i in range(40)]
    assert all(is_sampled(name, 0, "sampled") for name in names)
    chosen = [[is_sampled(name, block, "sampled") for block in range(1, 1025)] for name in names]
    share = sum(map(sum, chosen)) / (40 * 1024)
    assert abs(share - 1 / 32) < 4 * math.sqrt(31 / 1024 / (40 * 1024))
    assert len({tuple(row) for row in chosen}) == 40
    for row in chosen:  # no stretch of a tensor is left out
        assert 10 <= sum(row) <= 60
    for period in (2, 4, 8, 16, 32):
        phases = [sum(sum(row[p::period]) for row in chosen) for p in range(period)]
        mean = sum(phases) / period
        assert all(abs(count - mean) < 4.5 * math.sqrt(mean) for count in phases)


def test_full_health_looks_at_every_block():
    assert all(is_sampled("x", block, "full") for block in range(1000))


def piece(name, output, sources, *, absmax=None, sampled=None):
    """A piece whose sums are those of the tensors given."""
    sums = block_sums(output, sources, make_scratch())
    return PieceSums(
        name,
        output.numel(),
        output.numel() if sampled is None else sampled,
        float(output.abs().max()) if absmax is None else absmax,
        add_exactly(sums[:1]),
        tuple(add_exactly([term]) for term in sums[1::2]),
        tuple(add_exactly([term]) for term in sums[2::2]),
    )


def oracle(first, second):
    a, b = first.double(), second.double()
    return float((a * b).sum() / (a.norm() * b.norm()))


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float32, torch.float64])
@pytest.mark.parametrize("count", [1, 3, 1000, BLOCK_ELEMENTS])
def test_cosines_of_weights_are_right_to_five_digits(dtype, count):
    generator = torch.Generator().manual_seed(count)
    base = torch.randn(count, generator=generator) * 0.02
    sources = [
        (base + torch.randn(count, generator=generator) * spread).to(dtype)
        for spread in (0.001, 0.02, 0.1)
    ]
    output = (sum(source.double() for source in sources) / 3).to(dtype)
    health = describe_model(
        [piece("w", output, sources)], candidates="abc", sources={"w": [0, 1, 2]}, mode="full"
    )
    found = health.tensors[0]
    for cosine, source in zip(found.cosines, sources, strict=True):
        assert cosine == pytest.approx(oracle(output, source), abs=2e-5)
    assert found.rms == pytest.approx(float(output.double().square().mean().sqrt()), rel=2e-5)
    norms = [float(source.double().norm()) for source in sources]
    ratio = float(output.double().norm()) / (sum(norms) / 3)
    assert found.norm_ratio == pytest.approx(ratio, rel=4e-5)


@given(
    st.lists(st.floats(-(2.0**100), 2.0**100, width=32), min_size=1, max_size=64),
    st.lists(st.floats(-(2.0**100), 2.0**100, width=32), min_size=1, max_size=64),
    st.integers(1, BLOCK_ELEMENTS),
)
@example([1e-30], [1e-30], 100)  # squares that float32 cannot hold
@example([1e30], [-1e-30], BLOCK_ELEMENTS)
@example([1.0, 1e-3, 1e-3], [0.01], BLOCK_ELEMENTS)
def test_sums_of_any_block_are_within_the_bound(first, second, count):
    def block(values):
        return torch.tensor(values).repeat(count // len(values) + 1)[:count]

    a, b = block(first), block(second)
    sums = block_sums(a, [b], make_scratch())
    wanted = [(a, a), (b, b), (a, b)]
    for found, (x, y) in zip(sums, wanted, strict=True):
        products = x.double() * y.double()
        # Terms below 2**-126 may be lost where float32 adds.
        assert abs(found - float(products.sum())) <= 2**-8 * float(products.abs().sum()) + 2**-110


def test_a_norm_that_averaging_eats_is_warned_of():
    generator = torch.Generator().manual_seed(0)
    sources = [torch.randn(5000, generator=generator) for _ in range(4)]
    health = describe_model(
        [piece("w", sum(sources) / 4, sources)],
        candidates="abcd",
        sources={"w": range(4)},
        mode="sampled",
    )
    assert health.summary.norm_ratio == pytest.approx(0.5, abs=0.02)
    (warning,) = health.summary.warnings
    assert "is 0.50 of the mean of its sources" in warning
    assert "1 of 1 tensors" in warning


def test_candidates_that_agree_are_not_warned_of():
    base = torch.linspace(-1, 1, 500)
    health = describe_model(
        [piece("w", base, [base, base])], candidates="ab", sources={"w": [0, 1]}, mode="full"
    )
    assert health.summary.warnings == ()
    assert health.summary.norm_ratio == pytest.approx(1)
    assert [c.cosine for c in health.summary.candidates] == pytest.approx([1, 1])


def test_the_twenty_tensors_furthest_from_a_candidate_are_named():
    base = torch.ones(8)
    pieces = []
    for number in range(30):
        other = base.clone()
        other[:4] = number / 15 - 1
        pieces.append(piece(f"t{number}", base, [base, other]))
    health = describe_model(
        pieces, candidates="ab", sources={f"t{n}": [0, 1] for n in range(30)}, mode="full"
    )
    assert len(health.tensors) == 30
    assert health.summary.worst == tuple(f"t{n}" for n in range(20))
    assert health.summary.candidates[1].furthest == "t0"
    assert health.summary.candidates[1].furthest_cosine == pytest.approx(0, abs=1e-6)


def test_a_small_tensor_weighs_no_more_than_its_elements():
    same, across = torch.ones(100), torch.ones(100)
    across[::2] = -1
    pieces = [
        # A hundred elements stand for a million.
        dataclasses.replace(piece("large", same, [same]), num_elements=1_000_000),
        piece("small", same, [across]),
    ]
    health = describe_model(
        pieces, candidates="a", sources={"large": [0], "small": [0]}, mode="sampled"
    )
    assert health.summary.candidates[0].cosine == pytest.approx(1, abs=2e-4)
    assert health.summary.share == pytest.approx(200 / 1_000_100)


def test_zeros_and_candidates_that_take_no_part_have_no_cosine():
    zeros, ones = torch.zeros(10), torch.ones(10)
    pieces = [piece("z", zeros, [zeros]), piece("o", ones, [ones, -ones])]
    health = describe_model(
        pieces, candidates="abc", sources={"z": [0], "o": [1, 1]}, mode="sampled"
    )
    assert health.tensors[0].cosines == (None, None, None)
    assert health.tensors[0].norm_ratio is None
    assert health.tensors[1].cosines == (None, pytest.approx(-1), None)
    assert [c.cosine for c in health.summary.candidates] == [None, pytest.approx(0), None]


def test_values_beyond_float64_are_unknown_not_an_error():
    huge = torch.full((10,), 1e200, dtype=torch.float64)
    sums = [kept(term) for term in block_sums(huge, [huge], make_scratch())]
    found = dataclasses.replace(
        piece("h", torch.ones(10), [torch.ones(10)]),
        output=add_exactly(sums[:1]), sources=(add_exactly(sums[1:2]),),
        dots=(add_exactly(sums[2:]),), absmax=1e200,
    )  # fmt: skip
    health = describe_model([found], candidates="a", sources={"h": [0]}, mode="full")
    assert (health.tensors[0].rms, health.tensors[0].cosines) == (None, (None,))
    assert from_json(ModelHealth, to_json(health)) == health


def test_nothing_computed_has_no_health():
    assert describe_model([], candidates="ab", sources={}, mode="full") is None
