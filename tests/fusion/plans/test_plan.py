"""What a plan says of its reads: spans of sources, bytes, requests."""

import itertools
import math
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fusion.checkpoints.checkpoint import TensorSpec
from fusion.errors import MismatchError, WeightError
from fusion.plans.adapter_request import adapter_request
from fusion.plans.layout import plan_merge
from fusion.plans.plan import TensorRequest
from fusion.plans.requests import model_request
from fusion.plans.sources import SourceTensor
from fusion.plans.wish import MergeWish
from tests.support.hand_made import make_checkpoint
from tests.support.hand_made_plans import average, two_adapters


def side_by_side(columns, rows=3):
    sources = tuple(SourceTensor(n, "s", 0, "F32") for n in range(len(columns)))
    return TensorRequest(
        name="b",
        shape=(rows, sum(columns)),
        dtype="F32",
        work_dtype="F32",
        method="concatenate",
        weights=(1.0,) * len(columns),
        normalize=False,
        sources=sources,
        columns=tuple(columns),
    )


def test_a_source_of_the_outputs_shape_is_read_where_it_is_written():
    tensor = replace(side_by_side((2, 3)), columns=())
    assert tensor.span(1, 4, 9) == (4, 9)


@pytest.mark.parametrize(
    ("first", "last", "left", "right"),
    [
        (0, 15, (0, 6), (0, 9)),  # all of it
        (0, 2, (0, 2), (0, 0)),  # the first row of the left one
        (2, 5, (2, 2), (0, 3)),  # the first row of the right one
        (1, 6, (1, 3), (0, 3)),  # over the end of a row
        (5, 5, (2, 2), (3, 3)),  # nothing
    ],
)
def test_of_sources_side_by_side_a_span_has_the_elements_between(first, last, left, right):
    tensor = side_by_side((2, 3))
    assert (tensor.span(0, first, last), tensor.span(1, first, last)) == (left, right)


@given(
    st.lists(st.integers(1, 4), min_size=1, max_size=4),
    st.integers(1, 5),
    st.lists(st.integers(0, 80), max_size=5),
)
def test_spans_of_a_cutting_are_all_elements_of_each_source_once(columns, rows, cuts):
    tensor, total = side_by_side(columns, rows), rows * sum(columns)
    borders = sorted({0, total, *(cut for cut in cuts if cut < total)})
    for index, own in enumerate(columns):
        spans = [tensor.span(index, a, b) for a, b in itertools.pairwise(borders)]
        assert [start for start, _ in spans] == [0, *(end for _, end in spans[:-1])]
        assert spans[-1][1] == rows * own
    for first, last in itertools.pairwise(borders):
        spans = [tensor.span(index, first, last) for index in range(len(columns))]
        assert sum(b - a for a, b in spans) == last - first


def test_whole_checkpoints_are_read_once_each():
    plan = plan_merge(average())
    assert plan.read_bytes == 2 * 138  # 49 elements of BF16 and 5 of I64
    assert plan.write_bytes == sum(shard.size for shard in plan.shards) == 138 + 440
    assert plan.num_reads(1 << 20) == 2 * 5  # the empty one is not read


def test_a_smaller_chunk_needs_more_reads():
    plan = plan_merge(average())
    assert plan.num_reads(16) == 2 * (4 + 3 + 2 + 1 + 1)


def test_the_base_of_adapters_is_read_once_and_factors_by_every_unit():
    request = model_request(two_adapters(), [1, 3], MergeWish())
    base = 2 * (6 * 4 + 4 * 8 + 3)
    factors = 4 * (2 * (4 + 6) + 1 * (8 + 4) + 3 * (4 + 6))
    whole = plan_merge(request)
    assert whole.read_bytes == base + factors
    assert whole.num_reads(1 << 20) == 3 + 6
    small = plan_merge(request, unit_bytes=16)
    assert small.read_bytes > whole.read_bytes
    assert small.num_reads(1 << 20) > whole.num_reads(1 << 20)


def test_tensors_of_a_base_that_none_changes_have_one_source():
    tensors = {t.name: t for t in model_request(two_adapters(), [1, 3], MergeWish()).tensors}
    assert len(tensors["bias"].sources) == 1
    assert tensors["bias"].weights == (1.0,)
    assert len(tensors["x.weight"].sources) == 2
    assert tensors["x.weight"].distinct == (0,)
    assert len(tensors["y.weight"].sources) == 2


def test_a_request_knows_its_candidates_and_their_base():
    adapters = two_adapters()
    request = model_request(adapters, [1, 3], MergeWish())
    assert request.candidates == tuple(adapters)
    assert request.base is adapters[0].adapter.base
    assert request.checkpoints == (*adapters, request.base)
    assert average().base is None


def test_one_adapter_is_made_of_ranks_side_by_side():
    tensors = {t.name: t for t in adapter_request(two_adapters(), [1, 3], MergeWish()).tensors}
    a = tensors["base_model.model.x.lora_A.weight"]
    b = tensors["base_model.model.x.lora_B.weight"]
    assert (a.shape, a.columns, a.weights) == ((5, 4), (8, 12), (1.0, 1.0))
    assert (b.shape, b.columns, b.weights) == ((6, 5), (2, 3), (0.125, 0.375))
    assert {t.method for t in tensors.values()} == {"concatenate"}


def test_one_adapter_cannot_be_made_of_a_whole_checkpoint():
    whole = make_checkpoint("whole", {"x.weight": (6, 4)})
    with pytest.raises(MismatchError, match="whole is a whole checkpoint"):
        adapter_request([*two_adapters(), whole], [1, 1, 1], MergeWish())


def test_a_tensor_that_some_adapters_replace_is_averaged_with_that_of_the_base():
    first, second = two_adapters()
    own = TensorSpec("base_model.model.bias", "F32", (3,), "adapter_model.safetensors", 90, 102)
    saving = replace(first, adapter=replace(first.adapter, saved={"bias": own}))
    *_, bias = adapter_request([saving, second], [1, 3], MergeWish()).tensors
    assert (bias.name, bias.method, bias.weights) == ("base_model.model.bias", "linear", (1.0, 3.0))
    assert [(s.checkpoint, s.start, s.dtype) for s in bias.sources] == [
        (0, 90, "F32"),
        (2, 1000 + 2 * 56, "BF16"),
    ]
    assert (bias.dtype, bias.work_dtype) == ("F32", "F32")


@pytest.mark.parametrize(
    ("weights", "said"),
    [([1.0], "2 finite weights"), ([1.0, math.inf], "2 finite"), ([1.0, -1.0], "sum to 0")],
)
def test_weights_that_give_no_average_are_refused(weights, said):
    with pytest.raises(WeightError, match=said):
        model_request(two_adapters(), weights, MergeWish())


def test_whole_numbers_are_copied_and_floats_averaged_in_what_holds_all():
    mixed = [
        make_checkpoint("a", {"x": (3,), "ids": (3,)}, dtype={"x": "BF16", "ids": "I64"}),
        make_checkpoint("b", {"x": (3,), "ids": (3,)}, dtype={"x": "F16", "ids": "I64"}),
    ]
    x, ids = model_request(mixed, [1, 1], MergeWish()).tensors
    assert (x.method, x.dtype, x.work_dtype) == ("linear", "F32", "F32")
    assert (ids.method, ids.dtype, ids.work_dtype) == ("copy", "I64", "I64")
    x, ids = model_request(mixed, [1, 1], MergeWish(dtype="float16")).tensors
    assert (x.dtype, x.work_dtype, ids.dtype) == ("F16", "F32", "I64")
