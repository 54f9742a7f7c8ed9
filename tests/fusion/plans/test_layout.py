"""The cutting: where every byte of an output lies, in which file, unit and part."""

import itertools
import json
import math
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fusion.checkpoints.header import parse_header
from fusion.errors import MethodError
from fusion.plans.adapter_request import adapter_request
from fusion.plans.layout import MAX_PARTS, UNIT_BYTES, format_index, plan_merge, shard_name
from fusion.plans.plan import find_pieces
from fusion.plans.requests import model_request
from fusion.plans.wish import MergeWish
from tests.support.hand_made import ITEM, make_checkpoint
from tests.support.hand_made_plans import SHAPES, average, two_adapters


def request_of(shapes, *, dtype="F32", dtype_out=None):
    two = [make_checkpoint(name, shapes, dtype=dtype) for name in "ab"]
    return model_request(two, [1, 1], MergeWish(dtype=dtype_out))


def names_of(group):
    return [placed.tensor.name for placed in group.tensors]


# Ids of the same requests in release 0.1.0: what that release began is found again by its id.
GOLDEN = {
    "average": "6406c9b9b62a34a5b6140e85d3118988e796c1b6821c34206ad4cef79f46ba41",
    "in F16": "e0f31db5ef0fda3dbda7e7d6064eabedbb1426291c95fc56b69d128d1b1ab24a",
    "small units": "561a09ca381d6697c792417e792dcd20dfefe0daa5cf134bbbe986d765a4857d",
    "two shards": "bb6ec71af096a31300faa2e3c2197d3639a517e04e99ab42c25aaea21342ab46",
    "adapters": "7e5bd936af8bc3b7f6975b7354b1bfcf208fa7b993b7d9bf8923a5adfb858e11",
    "transposed": "ec1b5c6d8cc05a9c0e3b0cbfead94bf40fd042045428d7869c3f2047161abcaa",
    "one adapter": "fccfff0e71f20576c6eb7e7b18cd05c4e1c92d0e9eb5b4d86c70533f76701020",
    "one in BF16": "0e4350fde1aef97161bff989c5636e0480d43616973c9b5e5771c27a201543d2",
}


def golden_plan(case):
    match case:
        case "average":
            return plan_merge(average())
        case "in F16":
            return plan_merge(average("float16"))
        case "small units":
            return plan_merge(average(), unit_bytes=48)
        case "two shards":
            return plan_merge(average(), shard_bytes=100)
        case "adapters" | "transposed":
            adapters = two_adapters(is_transposed=case == "transposed")
            return plan_merge(model_request(adapters, [1, 3], MergeWish()))
    dtype = None if case == "one adapter" else "bfloat16"
    return plan_merge(adapter_request(two_adapters(), [1, 3], MergeWish(dtype=dtype)))


@pytest.mark.parametrize("case", GOLDEN)
def test_plans_keep_the_ids_of_the_first_release(case):
    plan = golden_plan(case)
    assert plan.id == GOLDEN[case]
    assert plan.short == GOLDEN[case][:12]


def test_all_that_decides_the_bytes_is_in_the_id():
    request = average()
    first, second = request.checkpoints
    others = [
        model_request([first, second], [0.5, 0.5], MergeWish()),
        model_request([second, first], [0.25, 0.75], MergeWish()),
        replace(request, checkpoints=(first, replace(second, shards=first.shards))),
        replace(request, tensors=request.tensors[1:]),
        replace(request, tensors=tuple(replace(t, normalize=False) for t in request.tensors)),
    ]
    ids = {plan_merge(other).id for other in [request, *others]}
    ids |= {plan_merge(request, unit_bytes=48).id, plan_merge(request, shard_bytes=100).id}
    assert len(ids) == len(others) + 3


def test_names_places_and_configs_of_checkpoints_are_not_in_the_id():
    request = average()
    renamed = tuple(
        replace(checkpoint, name="other", uri="/elsewhere", config={"model_type": "bert"})
        for checkpoint in request.checkpoints
    )
    assert plan_merge(replace(request, checkpoints=renamed)).id == plan_merge(request).id


def test_tensors_follow_a_padded_header_without_holes():
    (shard,) = plan_merge(average()).shards
    assert len(shard.header) % 8 == 0
    positions = [len(shard.header), *(placed.end for placed in shard.tensors)]
    assert [placed.start for placed in shard.tensors] == positions[:-1]
    assert shard.size == positions[-1]
    specs = parse_header(shard.header, shard=shard.name, file_size=shard.size)
    assert [(s.name, s.start, s.end) for s in specs] == [
        (p.tensor.name, p.start, p.end) for p in shard.tensors
    ]
    assert names_of(shard) == list(SHAPES)


@pytest.mark.parametrize("letters", range(1, 9))
def test_whatever_the_names_data_starts_on_eight_bytes(letters):
    (shard,) = plan_merge(request_of({"x" * letters: (3,)})).shards
    assert len(shard.header) % 8 == 0
    assert int.from_bytes(shard.header[:8], "little") == len(shard.header) - 8


def test_small_tensors_share_a_unit_and_a_large_one_is_cut_between_elements():
    plan = plan_merge(request_of({"a": (2,), "b": (3,), "large": (1000,)}), unit_bytes=1024)
    first, *middle, last = plan.units
    assert [piece.placed.tensor.name for piece in find_pieces(plan, first)] == ["a", "b", "large"]
    covered = [next(find_pieces(plan, unit)) for unit in (*middle, last)]
    assert {piece.placed.tensor.name for piece in covered} == {"large"}
    assert covered[-1].last == 1000
    for before, after in itertools.pairwise(covered):
        assert before.last == after.first


def test_an_element_that_straddles_a_border_is_in_the_pieces_of_both_units():
    plan = plan_merge(request_of({"a": (9,)}, dtype="F64"), unit_bytes=77)
    (shard,) = plan.shards
    start = shard.tensors[0].start
    border = next(u.end for u in plan.units if u.end > start)
    assert (border - start) % 8
    before, after = (
        next(find_pieces(plan, unit)) for unit in plan.units if border in (unit.start, unit.end)
    )
    assert before.last == after.first + 1


def test_units_are_numbered_in_each_shard_and_named_for_the_ledger():
    plan = plan_merge(average(), shard_bytes=100, unit_bytes=200)
    assert [unit.id for unit in plan.units] == [
        "00001-00001", "00001-00002", "00002-00001", "00002-00002",
    ]  # fmt: skip
    assert [unit.end - unit.start for unit in plan.units if unit.number == 1] == [200, 200]


def test_a_tensor_larger_than_a_shard_has_one_of_its_own():
    plan = plan_merge(request_of({"a": (1,), "large": (100,), "b": (1,), "c": (1,)}), shard_bytes=8)
    assert [names_of(shard) for shard in plan.shards] == [["a"], ["large"], ["b", "c"]]


def test_shards_are_filled_to_their_limit_and_no_further():
    shapes = dict.fromkeys("abcd", (2,))
    plan = plan_merge(request_of(shapes), shard_bytes=16)
    assert [names_of(shard) for shard in plan.shards] == [["a", "b"], ["c", "d"]]


def test_an_adapter_is_one_file_whatever_its_size():
    plan = plan_merge(adapter_request(two_adapters(), [1, 1], MergeWish()), shard_bytes=8)
    assert [shard.name for shard in plan.shards] == ["adapter_model.safetensors"]


def test_no_shard_has_more_parts_than_s3_takes():
    shapes = {"large": (MAX_PARTS * UNIT_BYTES // 4,)}
    plan = plan_merge(request_of(shapes), shard_bytes=10 * MAX_PARTS * UNIT_BYTES)
    assert plan.unit_bytes == 2 * UNIT_BYTES
    assert MAX_PARTS // 2 <= len(plan.units) <= MAX_PARTS
    exact = plan_merge(request_of({"x": (1,)}), unit_bytes=1)
    assert exact.unit_bytes == 1


def test_a_method_that_does_not_exist_is_refused():
    request = average()
    tensors = (replace(request.tensors[0], method="slurp"), *request.tensors[1:])
    with pytest.raises(MethodError, match=r"slurp is not a merge method; supported: .*linear"):
        plan_merge(replace(request, tensors=tensors))


def test_shards_are_named_as_the_library_names_them():
    assert shard_name(0, 1) == "model.safetensors"
    assert shard_name(1, 12) == "model-00002-of-00012.safetensors"
    assert shard_name(0, 1, stem="adapter_model") == "adapter_model.safetensors"


def test_the_index_says_where_each_tensor_is_and_how_much_there_is():
    plan = plan_merge(average(), shard_bytes=100)
    index = json.loads(format_index(plan))
    one, two = "model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors"
    assert index["weight_map"] == {
        "embed.weight": one, "position_ids": one, "dense.weight": two, "dense.bias": two,
        "scalar": two, "empty": two,
    }  # fmt: skip
    assert index["metadata"] == {"total_parameters": 54, "total_size": 138}


DIMENSIONS = st.lists(st.integers(0, 5), max_size=3).map(tuple)
KINDS = st.sampled_from(["F64", "F32", "BF16", "I64", "U8"])


@st.composite
def plans(draw):
    """A plan of up to six tensors of any kinds, cut into units and shards of any size."""
    found = draw(st.lists(st.tuples(DIMENSIONS, KINDS), min_size=1, max_size=6))
    shapes = {f"t{number}": shape for number, (shape, _) in enumerate(found)}
    kinds = {f"t{number}": kind for number, (_, kind) in enumerate(found)}
    unit_bytes, shard_bytes = draw(st.integers(1, 700)), draw(st.integers(1, 900))
    request = request_of(shapes, dtype=kinds)
    return plan_merge(request, unit_bytes=unit_bytes, shard_bytes=shard_bytes)


@given(plans())
def test_every_byte_of_the_output_is_in_exactly_one_unit(plan):
    for index, shard in enumerate(plan.shards):
        units = [unit for unit in plan.units if unit.shard == index]
        assert [unit.number for unit in units] == list(range(1, len(units) + 1))
        borders = [units[0].start, *(unit.end for unit in units)]
        assert [unit.start for unit in units] == borders[:-1]
        assert (borders[0], borders[-1]) == (0, shard.size)
        assert {unit.end - unit.start for unit in units[:-1]} <= {plan.unit_bytes}
    assert [unit.shard for unit in plan.units] == sorted(unit.shard for unit in plan.units)


@given(plans())
def test_the_pieces_of_all_units_are_every_element_in_order(plan):
    for index, shard in enumerate(plan.shards):
        seen = {placed.tensor.name: 0 for placed in shard.tensors}
        for unit in plan.units:
            for piece in find_pieces(plan, unit) if unit.shard == index else ():
                name, item = piece.placed.tensor.name, ITEM[piece.placed.tensor.dtype]
                # What straddles a border is read twice, and nothing else is.
                assert piece.first in (seen[name], seen[name] - 1)
                assert piece.first < piece.last
                assert piece.placed.start + piece.first * item < unit.end
                assert piece.placed.start + piece.last * item > unit.start
                seen[name] = piece.last
        assert list(seen.values()) == [math.prod(p.tensor.shape) for p in shard.tensors]


@given(plans(), st.integers(1, 1000), st.integers(1, 1000))
def test_the_id_does_not_depend_on_how_a_worker_reads(plan, chunk_bytes, other_bytes):
    before = plan.id
    assert plan.num_reads(chunk_bytes) >= plan.num_reads(chunk_bytes + other_bytes)
    again = plan_merge(plan.request, unit_bytes=plan.unit_bytes, shard_bytes=5_000_000_000)
    assert (again.id == before) == (len(plan.shards) == 1)
