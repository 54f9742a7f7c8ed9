"""Lists of tensors that one change of names makes equal are one; any other stays as it is."""

import pytest

from fusion.checkpoints.agreement import find_mismatches
from fusion.checkpoints.names import align_names
from tests.support.hand_made import make_adapter, make_checkpoint

PLAIN = (
    "bert.embeddings.LayerNorm.weight", "bert.embeddings.LayerNorm.bias",
    "bert.encoder.layer.0.output.dense.weight", "classifier.weight",
)  # fmt: skip


def checkpoint(name, tensors):
    return make_checkpoint(name, dict.fromkeys(tensors, (4, 2)))


def named(*lists):
    """The names of each of the checkpoints with these tensors, once they are aligned."""
    aligned = align_names([checkpoint(f"c{i}", names) for i, names in enumerate(lists)])
    return [tuple(tensor.name for tensor in c.tensors) for c in aligned]


CHANGES = {
    "compiled": lambda name: f"_orig_mod.{name}",
    "compiled inside": lambda name: name.replace("bert.encoder", "bert._orig_mod.encoder"),
    "parallel": lambda name: f"module.{name}",
    "both": lambda name: f"module._orig_mod.{name}",
    "sharded": lambda name: f"_fsdp_wrapped_module.{name}",
    "TensorFlow": lambda name: name.replace("Norm.weight", "Norm.gamma").replace(
        "Norm.bias", "Norm.beta"
    ),
    "no prefix": lambda name: name.removeprefix("bert."),
    "no prefix, compiled": lambda name: "_orig_mod." + name.removeprefix("bert."),
}


@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES)
def test_names_that_a_wrapper_or_a_version_changed_are_read_as_the_others(change):
    other = tuple(map(change, PLAIN))
    for lists in ((PLAIN, other), (other, PLAIN), (PLAIN, other, PLAIN), (other, other, PLAIN)):
        assert named(*lists) == [PLAIN] * len(lists)


def test_what_is_read_is_remembered_by_its_name_on_disk():
    wrapped = checkpoint("b", [f"_orig_mod.{name}" for name in PLAIN])
    _, aligned = align_names([checkpoint("a", PLAIN), wrapped])
    assert aligned.renamed == {name: f"_orig_mod.{name}" for name in PLAIN}
    assert [t.start for t in aligned.tensors] == [t.start for t in wrapped.tensors]


def test_names_that_agree_are_not_touched():
    wrapped = tuple(f"module.{name}" for name in PLAIN)
    checkpoints = [checkpoint("a", wrapped), checkpoint("b", wrapped)]
    assert all(x is y for x, y in zip(align_names(checkpoints), checkpoints, strict=True))


UNLIKE = {
    "one tensor more": (*PLAIN, "extra.weight"),
    "one tensor less": PLAIN[:-1],
    "another head": (*PLAIN[:-1], "score.weight"),
    "wrapped, and one more": (*(f"module.{name}" for name in PLAIN), "module.extra"),
    "another encoder": tuple(name.replace("bert.", "roberta.") for name in PLAIN),
    "two become one": (*PLAIN[1:], "bert.embeddings.LayerNorm.gamma", "module.classifier.weight"),
}


@pytest.mark.parametrize("other", UNLIKE.values(), ids=UNLIKE)
def test_lists_that_are_not_one_after_all_stay_and_are_refused(other):
    lists = [PLAIN, tuple(other)]
    assert named(*lists) == lists
    checkpoints = [checkpoint(f"c{i}", names) for i, names in enumerate(lists)]
    assert {m.code for m in find_mismatches(align_names(checkpoints), cast=False)} == {"E-TENSORS"}


def test_a_prefix_is_not_guessed_where_two_would_do():
    bare = ("encoder.weight",)
    lists = [("query.encoder.weight",), ("passage.encoder.weight",), bare]
    assert named(*lists) == lists


def test_constants_in_one_alone_do_not_hide_that_lists_are_one():
    wrapped = (*(f"module.{name}" for name in PLAIN), "module.bert.embeddings.position_ids")
    assert named(PLAIN, wrapped) == [PLAIN, (*PLAIN, "bert.embeddings.position_ids")]
    bare = (*(name.removeprefix("bert.") for name in PLAIN), "embeddings.position_ids")
    assert named(PLAIN, bare) == [PLAIN, (*PLAIN, "bert.embeddings.position_ids")]


def test_adapters_are_not_renamed():
    base = checkpoint("base", PLAIN)
    adapters = [make_adapter(name, base, {PLAIN[2]: 2}) for name in "ab"]
    assert align_names(adapters) == tuple(adapters)
    wrapped = checkpoint("c", [f"module.{name}" for name in PLAIN])
    assert align_names([*adapters, wrapped])[:2] == tuple(adapters)
