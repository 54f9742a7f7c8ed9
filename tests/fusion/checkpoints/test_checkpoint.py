import random

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from fusion.checkpoints.agreement import SEVERITY, check_agree, find_mismatches
from fusion.checkpoints.checkpoint import (
    Checkpoint,
    Pin,
    PinnedFile,
    TensorSpec,
    checkpoint_digest,
    describe_kind,
    group_candidates,
    num_bytes,
    num_parameters,
)
from fusion.dtypes import tensor_bytes
from fusion.errors import MismatchError

Table = dict[str, tuple[str, tuple[int, ...]]]
TENSORS: Table = {"a": ("F32", (2, 3)), "b": ("BF16", (4,)), "n": ("I64", ())}


def make(name, tensors=None, config=None, digest="", etag="e", version=None):
    specs, position = [], 100
    for tensor, (dtype, shape) in (TENSORS if tensors is None else tensors).items():
        end = position + tensor_bytes(dtype, shape)
        specs.append(TensorSpec(tensor, dtype, shape, "model.safetensors", position, end))
        position = end
    return Checkpoint(
        name=name,
        uri=f"/runs/{name}",
        shards=(PinnedFile("model.safetensors", Pin(position, etag, version)),),
        tensors=tuple(specs),
        side_files=(PinnedFile("config.json", Pin(2, "c")),),
        config=config or {},
        tokenizer_digest=digest,
    )


def texts(*checkpoints, cast=False):
    return [(m.code, m.text) for m in find_mismatches(checkpoints, cast=cast)]


def test_elements_and_bytes_are_counted_over_all_tensors():
    assert num_parameters(make("x")) == 6 + 4 + 1
    assert num_bytes(make("x")) == 24 + 8 + 8
    assert num_parameters(make("x", {})) == num_bytes(make("x", {})) == 0


def test_the_digest_does_not_know_name_place_or_order_of_files():
    one = make("x")
    turned = Checkpoint("y", "s3://b/y", one.side_files, one.tensors, one.shards, {"k": 1}, "d")
    assert checkpoint_digest(turned) == checkpoint_digest(one)


@pytest.mark.parametrize("change", [{"etag": "f"}, {"version": "v1"}, {"tensors": {}}], ids=str)
def test_the_digest_knows_every_field_of_a_pin(change):
    assert checkpoint_digest(make("x", **change)) != checkpoint_digest(make("x"))


@pytest.mark.parametrize(
    ("config", "kind"),
    [
        ({}, "without config"),
        ({"model_type": "bert"}, "bert"),
        (
            {"model_type": "bert", "architectures": ["BertForSequenceClassification"]},
            "bert BertForSequenceClassification 2 labels",
        ),
        (
            {
                "model_type": "bert",
                "architectures": ["BertForSequenceClassification"],
                "id2label": {"0": "a", "1": "b", "2": "c"},
            },
            "bert BertForSequenceClassification 3 labels",
        ),
        ({"model_type": "lstm", "num_labels": 4}, "lstm 4 labels"),
        ({"model_type": "bert", "architectures": ["BertModel"]}, "bert BertModel"),
        ({"architectures": "BertModel", "id2label": None}, "without config"),
    ],
    ids=str,
)
def test_a_kind_is_type_architecture_and_number_of_labels(config, kind):
    assert describe_kind(make("x", config=config)) == kind


def test_a_default_classifier_is_in_the_group_of_those_that_name_their_two_labels():
    silent = {"model_type": "bert", "architectures": ["BertForSequenceClassification"]}
    named = {**silent, "id2label": {"0": "no", "1": "yes"}}
    groups = group_candidates([make("a", config=silent), make("b", config=named)])
    assert [[c.name for c in group] for group in groups] == [["a", "b"]]


def test_no_or_one_checkpoint_has_nothing_to_differ_from():
    assert find_mismatches([], cast=False) == find_mismatches([make("x")], cast=False) == ()
    check_agree([], cast=False)
    assert group_candidates([]) == ()


def test_one_shape_that_differs_is_said_in_one_sentence():
    odd = {**TENSORS, "a": ("F32", (2, 4))}
    with pytest.raises(MismatchError) as caught:
        check_agree([make("s1"), make("s2", odd), make("s3")], cast=False)
    assert caught.value.code == "E-SHAPE"
    assert str(caught.value) == (
        "1 of 3 tensors differ: a is [2, 4] in s2, [2, 3] elsewhere.\nNo tensor data was read."
    )
    assert "leave out s2" in caught.value.hint


def test_one_dtype_that_differs_hints_at_the_cast():
    odd = {**TENSORS, "b": ("F16", (4,))}
    with pytest.raises(MismatchError) as caught:
        check_agree([make("s1"), make("s2", odd)], cast=False)
    assert caught.value.code == "E-DTYPE"
    assert "b is F16 in s2, BF16 elsewhere" in str(caught.value)
    assert "merge.dtype" in caught.value.hint
    check_agree([make("s1"), make("s2", odd)], cast=True)


@pytest.mark.parametrize("dtype", ["I64", "BOOL", "F8_E4M3"])
def test_a_cast_never_turns_codes_or_whole_numbers_into_floats(dtype):
    odd = {**TENSORS, "b": (dtype, (4,))}
    assert texts(make("s1"), make("s2", odd), cast=True) == [
        ("E-DTYPE", f"b is {dtype} in s2, float elsewhere")
    ]


def test_with_two_checkpoints_the_first_is_taken_to_be_right():
    more, less = {**TENSORS, "z": ("F32", (1,))}, {**TENSORS, "y": ("F32", (1,))}
    assert texts(make("s1", more), make("s2", less)) == [
        ("E-TENSORS", "z is not in s2"),
        ("E-TENSORS", "y is only in s2"),
    ]


def test_every_kind_of_difference_is_listed_even_beside_hundreds_of_another():
    wide: Table = {f"layer.{i}": ("F32", (i + 1,)) for i in range(300)}
    narrow: Table = {name: (dtype, (shape[0] + 1,)) for name, (dtype, shape) in wide.items()}
    narrow["extra"] = ("F32", (1,))
    with pytest.raises(MismatchError) as caught:
        check_agree(
            [
                make("s1", wide, {"hidden_size": 4}, "t"),
                make("s2", narrow, {"hidden_size": 5}, "u"),
            ],
            cast=False,
        )
    text = str(caught.value)
    assert "301 of 301 tensors and 1 tokenizer and 1 config value differ" in text
    assert caught.value.code == "E-TENSORS"
    for part in ("layer.0 is [2] in s2", "layer.299 is", "extra is only in s2", "hidden_size is 5"):
        assert part in text
    assert text.count("  E-") == 303


def test_a_tensor_that_differs_in_two_checkpoints_counts_once():
    shapes: list[Table] = [{"a": ("F32", (size,))} for size in (1, 1, 2, 3)]
    with pytest.raises(MismatchError, match="1 of 1 tensors differ") as caught:
        check_agree([make(f"s{i}", table) for i, table in enumerate(shapes)], cast=False)
    assert "a is [2] in s2, [1] in most others" in str(caught.value)
    assert "a is [3] in s3, [1] in most others" in str(caught.value)


def test_a_checkpoint_without_tokenizer_differs_from_those_with_one():
    found = texts(make("s1", digest="t"), make("s2", digest="t"), make("s3"))
    assert found == [("E-VOCABULARY", "s3 has no tokenizer, s1 has one")]


@pytest.mark.parametrize(
    ("ours", "theirs", "example"),
    [
        ({"a": 0, "b": 1}, {"a": 0, "c": 1}, "id 1 is 'c' in s2, 'b' in s1"),
        ({"a": 0}, {"a": 0, "new": 7}, "id 7 is 'new' in s2, no token in s1"),
        ({"a": 0}, {"a": 0}, "same tokens, other merges or scores"),
        ({"a": 0}, {}, "0 tokens are known of s2, 1 of s1"),
        ({"\x1b[2J": 0}, {"b": 0}, r"'b' in s2, '\\x1b\[2J' in s1"),
    ],
    ids=["other", "extra", "merges", "unknown", "escaped"],
)
def test_a_vocabulary_that_differs_is_shown_by_one_token(ours, theirs, example):
    (found,) = find_mismatches(
        [make("s1", digest="t"), make("s2", digest="u")],
        cast=False,
        vocabularies={"s1": ours, "s2": theirs},
    )
    assert found.code == "E-VOCABULARY"
    assert example.replace("\\[", "[").replace("\\\\", "\\") in found.text


@pytest.mark.parametrize(
    "key",
    ["hidden_size", "rope_theta", "layer_norm_eps", "hidden_act", "pad_token_id", "anything_new"],
)
def test_config_keys_that_may_change_the_mathematics_must_agree(key):
    found = texts(make("s1", config={key: 1}), make("s2", config={key: 2}))
    assert found == [("E-CONFIG", f"config {key} is 2 in s2, 1 elsewhere")]


@pytest.mark.parametrize(
    ("ours", "theirs"),
    [
        ({"_name_or_path": "a"}, {"_name_or_path": "b"}),
        ({"transformers_version": "4"}, {}),
        ({"torch_dtype": "float32"}, {"dtype": "bfloat16"}),
        ({"attention_probs_dropout_prob": 0.1}, {"attention_probs_dropout_prob": 0.2}),
        ({"seq_classif_dropout": 0.1, "layerdrop": 0.0}, {"attn_pdrop": 0.5}),
        ({"rope_theta": 10000}, {"rope_theta": 10000.0}),
        ({"pruned": None}, {}),
        ({"rope_scaling": {"a": 1, "b": [1, 2.0]}}, {"rope_scaling": {"b": [1.0, 2], "a": 1}}),
        ({"text_config": {"dtype": "float32"}}, {"text_config": {"dtype": "float16"}}),
        ({"label2id": {"a": 0}}, {}),
    ],
    ids=str,
)
def test_config_keys_that_change_nothing_may_differ(ours, theirs):
    assert texts(make("s1", config=ours), make("s2", config=theirs)) == []


def test_labels_and_nested_values_are_compared_by_name():
    ours = {"id2label": {"0": "NEG", "1": "POS"}, "rope": {"theta": 1, "kind": "x"}}
    theirs = {"id2label": {"0": "POS", "1": "NEG"}, "rope": {"theta": 2, "kind": "x"}}
    assert [text for _, text in texts(make("s1", config=ours), make("s2", config=theirs))] == [
        'config id2label.0 is "POS" in s2, "NEG" elsewhere',
        'config id2label.1 is "NEG" in s2, "POS" elsewhere',
        "config rope.theta is 2 in s2, 1 elsewhere",
    ]


def test_true_is_not_one():
    found = texts(make("s1", config={"tie": True}), make("s2", config={"tie": 1}))
    assert [code for code, _ in found] == ["E-CONFIG"]


tensor_kinds = st.tuples(st.sampled_from(["F32", "BF16", "I64"]), st.just((2,)) | st.just((3,)))
some_tables = st.dictionaries(st.sampled_from("abc"), tensor_kinds, min_size=1)


@given(st.lists(some_tables, min_size=2, max_size=5), st.booleans())
@example(
    tables=[
        {"a": ("F32", (2,))},
        {"a": ("F32", (2,)), "c": ("F32", (2,))},
        {"a": ("F32", (2,)), "c": ("F32", (3,))},
    ],
    cast=False,
)
def test_checkpoints_agree_exactly_if_nothing_differs(tables, cast):
    def seen(table: Table) -> object:
        return {
            name: (shape, "float" if cast and dtype != "I64" else dtype)
            for name, (dtype, shape) in table.items()
        }

    checkpoints = [make(f"s{i}", table) for i, table in enumerate(tables)]
    found = find_mismatches(checkpoints, cast=cast)
    assert bool(found) == any(seen(table) != seen(tables[0]) for table in tables)
    odd = {m.checkpoint for m in found}
    kept = [c for c in checkpoints if c.name not in odd]
    assert find_mismatches(kept, cast=cast) == ()


@given(st.lists(some_tables, min_size=3, max_size=3), st.randoms(use_true_random=False))
def test_a_majority_is_right_wherever_it_stands(tables, shuffler: random.Random):
    right = [make(f"r{i}", tables[0]) for i in range(3)]
    odd = [make(f"o{i}", table) for i, table in enumerate(tables[1:])]
    mixed = right + odd
    shuffler.shuffle(mixed)
    assert not {m.checkpoint for m in find_mismatches(mixed, cast=False)} & {"r0", "r1", "r2"}


def test_every_code_has_a_rank():
    assert len(set(SEVERITY)) == len(SEVERITY) == 5
