import pytest

from fusion.checkpoints.agreement import LISTED, check_agree, find_mismatches
from fusion.checkpoints.checkpoint import (
    Checkpoint,
    Pin,
    PinnedFile,
    TensorSpec,
    checkpoint_digest,
    group_candidates,
    num_bytes,
    num_parameters,
)
from fusion.errors import MismatchError


def make(name, *, shape=(4, 2), dtype="F32", config=None, tokenizer="t", extra=()):
    specs = [TensorSpec("w", dtype, shape, "model.safetensors", 8, 8 + 32)]
    specs += [TensorSpec(n, "F32", (1,), "model.safetensors", 0, 4) for n in extra]
    return Checkpoint(
        name=name,
        uri=f"/{name}",
        shards=(PinnedFile("model.safetensors", Pin(100, "e1")),),
        tensors=tuple(specs),
        side_files=(),
        config=config or {"model_type": "bert", "hidden_size": 4},
        tokenizer_digest=tokenizer,
    )


def codes(*checkpoints, cast=False, **more):
    return [(m.checkpoint, m.code) for m in find_mismatches(checkpoints, cast=cast, **more)]


def test_of_very_many_differences_the_first_are_listed_and_the_rest_counted():
    whole = make("a", extra=[f"t{number}" for number in range(LISTED + 7)])
    with pytest.raises(MismatchError, match=r"\.\.\. and [1-9]\d* more") as refused:
        check_agree([whole, make("b"), make("c")], cast=False)
    assert str(refused.value).count("\n  E-") == LISTED


def test_equal_checkpoints_agree():
    assert codes(make("a"), make("b")) == []


def test_the_odd_one_is_named_even_when_it_comes_first():
    assert codes(make("a", shape=(5, 2)), make("b"), make("c")) == [("a", "E-SHAPE")]


def test_one_dtype_differs():
    assert codes(make("a"), make("b", dtype="BF16")) == [("b", "E-DTYPE")]
    assert codes(make("a"), make("b", dtype="BF16"), cast=True) == []
    assert codes(make("a"), make("b", dtype="I64"), cast=True) == [("b", "E-DTYPE")]


def test_missing_and_extra_tensors_are_told_apart():
    assert codes(make("a"), make("b"), make("c", extra=["x"])) == [("c", "E-TENSORS")]
    assert codes(make("a", extra=["x"]), make("b", extra=["x"]), make("c")) == [("c", "E-TENSORS")]


def test_a_vocabulary_that_differs_names_a_token():
    tables = {"a": {"<pad>": 0, "hi": 1}, "b": {"<pad>": 0, "ho": 1}}
    (found,) = find_mismatches(
        [make("a"), make("b", tokenizer="u")], cast=False, vocabularies=tables
    )
    assert found.code == "E-VOCABULARY"
    assert "id 1 is 'ho' in b, 'hi' in a" in found.text


def test_config_keys_that_change_the_mathematics_count_and_others_do_not():
    base = {"model_type": "bert", "rope_theta": 1e4, "dropout": 0.1}
    other = {"model_type": "bert", "rope_theta": 5e5, "dropout": 0.3, "transformers_version": "9"}
    assert codes(make("a", config=base), make("b", config=other)) == [("b", "E-CONFIG")]


def test_all_differences_are_in_one_error_with_the_gravest_code():
    with pytest.raises(MismatchError) as caught:
        check_agree([make("a"), make("b"), make("c", shape=(9,), dtype="F16")], cast=False)
    assert caught.value.code == "E-SHAPE"
    text = str(caught.value)
    assert "w is [9] in c, [4, 2] elsewhere" in text
    assert "w is F16 in c, F32 elsewhere" in text
    assert "No tensor data was read" in text


def test_groups_follow_kind_architecture_and_number_of_labels():
    two = {"model_type": "bert", "architectures": ["X"], "id2label": {"0": "a", "1": "b"}}
    three = {**two, "id2label": {"0": "a", "1": "b", "2": "c"}}
    groups = group_candidates(
        [make("a", config=two), make("b", config=three), make("c", config=two)]
    )
    assert [[c.name for c in group] for group in groups] == [["a", "c"], ["b"]]


def test_the_digest_is_of_pins_alone():
    a, b = make("a"), make("b")
    assert checkpoint_digest(a) == checkpoint_digest(b)
    changed = Checkpoint(
        "a", "/a", (PinnedFile("model.safetensors", Pin(100, "e2")),), a.tensors, ()
    )
    assert checkpoint_digest(a) != checkpoint_digest(changed)


def test_counts_come_from_headers():
    assert (num_parameters(make("a")), num_bytes(make("a"))) == (8, 32)


ACTED = {"model_type": "bert", "hidden_size": 4, "hidden_act": "relu"}
USUAL = [make(name) for name in "abcd"]


def refusal(*checkpoints, **more):
    with pytest.raises(MismatchError) as refused:
        check_agree(checkpoints, cast=False, **more)
    return str(refused.value)


def test_candidates_whose_configs_differ_in_the_same_way_are_one_line():
    said = refusal(*USUAL, make("x", config=ACTED), make("y", config=ACTED))
    assert said == (
        '1 config value differs: config hidden_act is "relu" in x and y, "gelu" elsewhere.\n'
        "No tensor data was read."
    )


def test_what_differs_otherwise_keeps_its_line():
    tanh = {**ACTED, "hidden_act": "tanh", "num_attention_heads": 3}
    odd = [make("x", config=ACTED), make("y", config=tanh), make("z", config=ACTED)]
    said = refusal(*USUAL, *odd).splitlines()
    assert said[0] == "7 candidates cannot be averaged, 2 config values differ:"
    assert said[1] == '  E-CONFIG  config hidden_act is "relu" in x and z, "gelu" in most others'
    assert said[2] == '  E-CONFIG  config hidden_act is "tanh" in y, "gelu" in most others'
    assert said[3].startswith("  E-CONFIG  config num_attention_heads is 3 in y, ")
    assert len(said) == 5


def test_tensors_and_tokenizers_that_differ_in_the_same_way_are_one_line_too():
    odd = [make(name, shape=(5, 2), tokenizer="u", extra=["z"]) for name in ("x", "y", "b2")]
    vocabularies = {c.name: {"one": 0, "two": 1} for c in USUAL}
    vocabularies |= {c.name: {"two": 0, "one": 1} for c in odd}
    said = refusal(*USUAL, *odd, vocabularies=vocabularies).splitlines()
    token = "id 0 is 'two' in x, y and b2, 'one' in a; rows would be mixed"
    assert said[1:-1] == [
        "  E-SHAPE  w is [5, 2] in x, y and b2, [4, 2] elsewhere",
        "  E-TENSORS  z is only in x, y and b2",
        f"  E-VOCABULARY  the tokenizer of x, y and b2 differs: {token}",
    ]


def test_of_very_many_candidates_on_one_line_the_first_are_named():
    odd = [make(f"x{number}", config=ACTED) for number in range(12)]
    said = refusal(*(make(f"u{number}") for number in range(13)), *odd)
    assert 'is "relu" in x0, x1, x2, x3, x4, x5, x6, x7 and 4 more, "gelu"' in said


def test_each_candidate_still_has_its_own_difference():
    found = find_mismatches([*USUAL, make("x", config=ACTED), make("y", config=ACTED)], cast=False)
    assert [m.text for m in found] == [
        f'config hidden_act is "relu" in {name}, "gelu" elsewhere' for name in "xy"
    ]
