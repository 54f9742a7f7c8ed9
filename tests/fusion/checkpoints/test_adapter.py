import json

import pytest

from fusion.checkpoints.adapter import parse_adapter, parse_settings
from fusion.checkpoints.checkpoint import (
    Checkpoint,
    Pin,
    PinnedFile,
    TensorSpec,
    checkpoint_digest,
    model_tensors,
    num_parameters,
)
from fusion.errors import MismatchError, WeightError
from fusion.plans.adapter_request import adapter_request, check_bases, format_adapter_config
from fusion.plans.layout import plan_merge
from fusion.plans.requests import model_request
from fusion.plans.sources import factor_ranges, first_seen
from fusion.plans.wish import MergeWish

PREFIX = "base_model.model."
BERT = {"q.weight": (8, 6), "e.weight": (20, 6), "h.weight": (2, 6), "sq.weight": (6, 6)}
LORA = {"peft_type": "LORA", "r": 2, "lora_alpha": 4, "bias": "none"}


def specs(shapes, shard, dtype="F32"):
    return tuple(TensorSpec(name, dtype, shape, shard, 8, 8) for name, shape in shapes.items())


def make_base(shapes=BERT, etag="1", **config):
    files = (PinnedFile("model.safetensors", Pin(8, etag)),)
    return Checkpoint("base", "/base", files, specs(shapes, files[0].name), (), config)


def factors(module="q", outputs=8, inputs=6, rank=2):
    return {f"{module}.lora_A.weight": (rank, inputs), f"{module}.lora_B.weight": (outputs, rank)}


def parse(shapes, *, base=None, **settings):
    tensors = specs({PREFIX + name: shape for name, shape in shapes.items()}, "adapter")
    return parse_adapter({**LORA, **settings}, tensors, base or make_base(), name="a")


def candidate(shapes, name="a", *, base=None, **settings):
    base = base or make_base()
    adapter = parse(shapes, base=base, **settings)
    tensors = specs({PREFIX + n: shape for n, shape in shapes.items()}, "adapter")
    files = (PinnedFile("adapter", Pin(8, name)),)
    return Checkpoint(name, f"/{name}", files, tensors, (), {}, "", adapter)


def test_alpha_over_rank_is_the_scale():
    (adapted,) = parse(factors()).adapted.values()
    assert (adapted.rank, adapted.scale, adapted.is_transposed) == (2, 2.0, False)


def test_rank_stabilised_adapters_divide_by_the_root():
    (adapted,) = parse(factors(), use_rslora=True).adapted.values()
    assert adapted.scale == 4 / 2**0.5


def test_patterns_give_modules_their_own_rank_and_alpha():
    scaling = parse_settings(
        {
            **LORA,
            "rank_pattern": {"layer.1.q": 8, "q": 16},
            "alpha_pattern": {r"^m\.layer\.2\.q": 1},
        },
        name="a",
    )
    assert [scaling.rank_of(m) for m in ("m.layer.1.q", "m.layer.11.q", "m.layer.1.k")] == [
        8,
        16,
        2,
    ]
    assert [scaling.scale_of(m) for m in ("m.layer.2.q", "x.m.layer.2.q")] == [1 / 16, 4 / 16]


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"peft_type": "IA3"}, "peft_type is 'IA3'"),
        ({"use_dora": True}, "use_dora"),
        ({"bias": "lora_only"}, "bias is 'lora_only'"),
        ({"lora_bias": True}, "lora_bias is set"),
        ({"init_lora_weights": "pissa_niter_4"}, "moved into the adapter"),
        ({"layer_replication": [[0, 4], [2, 5]]}, "layer_replication is set"),
        ({"trainable_token_indices": [1]}, "trainable_token_indices is set"),
        ({"new_trick": {"x": 1}}, "new_trick is set"),
        ({"r": 0}, "r is 0"),
        ({"r": 2.5}, "r is 2.5"),
        ({"r": "2"}, "r is '2'"),
        ({"lora_alpha": float("nan")}, "lora_alpha is nan"),
        ({"rank_pattern": [1]}, "a table is expected"),
        ({"rank_pattern": {"q": 1.5}}, "not whole"),
        ({"rank_pattern": {"(a+)+b": 1}}, "slow one"),
        ({"alpha_pattern": {"(": 1}}, "no pattern"),
    ],
)  # fmt: skip
def test_other_kinds_of_adapters_are_refused_by_name(settings, said):
    with pytest.raises(MismatchError, match=said) as caught:
        parse(factors(), **settings)
    assert caught.value.code == "E-ADAPTER"
    assert "merge_and_unload" in caught.value.hint


@pytest.mark.parametrize(
    ("shapes", "said"),
    [
        ({"q.lora_A.weight": (2, 6)}, "q has no lora_B"),
        ({"q.lora_B.weight": (8, 2)}, "q has no lora_A"),
        ({"q.lora_A.weight": (2, 6), "q.lora_embedding_B": (8, 2)}, "q has no lora_embedding_A"),
        (factors(outputs=9), r"B A is \[9, 6\], q\.weight is F32 \[8, 6\]"),
        (factors(rank=3), r"rank 2, A is F32 \[3, 6\]"),
        (factors("k"), r"k is adapted, and base has no k\.weight"),
        ({"q.lora_A.weight": (2, 6, 1, 1), "q.lora_B.weight": (8, 2, 1, 1)}, "a convolution"),
        ({"q.lora_magnitude_vector": (8,)}, "not offered"),
        ({"q.lora_B.bias": (8,)}, "not offered"),
        ({"k.weight": (2, 2)}, r"replaces k\.weight, which base does not have"),
        ({"h.weight": (3, 6)}, r"is F32 \[3, 6\], h\.weight is F32 \[2, 6\]"),
        ({"e.lora_embedding_A": (2, 6), "e.lora_embedding_B": (20, 2)},
         r"the embedding factors give \[6, 20\], not F32 \[20, 6\]"),
        ({}, "no factor and no saved module"),
    ],
)  # fmt: skip
def test_what_does_not_fit_the_base_is_listed(shapes, said):
    with pytest.raises(MismatchError, match=said):
        parse(shapes)


def test_factors_and_what_they_are_added_to_are_floating():
    tensors = specs({PREFIX + name: shape for name, shape in factors().items()}, "adapter", "I8")
    with pytest.raises(MismatchError, match="q: I8 and I8 added to F32 are not all floating"):
        parse_adapter(LORA, tensors, make_base(), name="a")


def test_everything_that_does_not_fit_is_in_one_error():
    with pytest.raises(MismatchError) as caught:
        parse({**factors("k"), **factors("q", outputs=9), "x.weight": (1,)})
    assert str(caught.value).count("\n  ") == 3


def test_names_without_the_prefix_are_refused():
    with pytest.raises(MismatchError, match="does not begin with"):
        parse_adapter(LORA, specs({"q.lora_A.weight": (2, 6)}, "s"), make_base(), name="a")


@pytest.mark.parametrize(
    "middle", ["", ".modules_to_save", ".modules_to_save.default", ".base_layer"]
)
def test_saved_modules_replace_the_tensors_of_the_base(middle):
    adapted = candidate({f"h{middle}.weight": (2, 6), **factors()})
    tensors = {spec.name: spec.shard for spec in model_tensors(adapted)}
    assert tensors == {"q.weight": "model.safetensors", "e.weight": "model.safetensors",
                       "h.weight": "adapter", "sq.weight": "model.safetensors"}  # fmt: skip
    assert num_parameters(adapted) == num_parameters(make_base())


def test_square_layers_are_transposed_where_the_kind_of_model_or_the_config_says_so():
    shapes = factors("c_proj", 6, 6)
    base = {"c_proj.weight": (6, 6)}
    (plain,) = parse(shapes, base=make_base(base)).adapted.values()
    (fan,) = parse(shapes, base=make_base(base), fan_in_fan_out=True).adapted.values()
    (gpt2,) = parse(shapes, base=make_base(base, model_type="gpt2")).adapted.values()
    assert [a.is_transposed for a in (plain, fan, gpt2)] == [False, True, True]
    other = make_base({"score.weight": (6, 6)}, model_type="gpt2")
    (linear,) = parse(factors("score", 6, 6), base=other, fan_in_fan_out=True).adapted.values()
    assert not linear.is_transposed


def test_embeddings_are_transposed_and_tied_ones_refused():
    shapes = {"e.lora_embedding_A": (2, 20), "e.lora_embedding_B": (6, 2)}
    (adapted,) = parse(shapes).adapted.values()
    assert adapted.is_transposed
    with pytest.raises(MismatchError, match="output head"):
        parse(shapes, base=make_base(architectures=["LlamaForCausalLM"], tie_word_embeddings=True))
    untied = make_base(architectures=["LlamaForCausalLM"], tie_word_embeddings=False)
    assert parse(shapes, base=untied).adapted


def test_a_body_saved_without_its_prefix_is_found():
    adapter = parse(factors("transformer.q"))
    assert list(adapter.adapted) == ["q.weight"]
    assert adapter.adapted["q.weight"].module == "transformer.q"


def test_the_digest_covers_the_base():
    one, other = (candidate(factors(), base=make_base(etag=etag)) for etag in "12")
    assert checkpoint_digest(one) != checkpoint_digest(other)
    with pytest.raises(MismatchError, match="2 bases"):
        check_bases([one, other])


def test_a_tensor_that_no_adapter_changes_is_read_once_and_kept():
    plan = plan_merge(
        model_request([candidate(factors()), candidate(factors(), "b")], [1, 2], MergeWish())
    )
    tensors = {tensor.name: tensor for tensor in plan.request.tensors}
    assert len(tensors["e.weight"].sources) == 1
    assert tensors["e.weight"].weights == (1.0,)
    assert (len(tensors["q.weight"].sources), len(tensors["q.weight"].distinct)) == (2, 1)
    numbers = 8 * 6 + 20 * 6 + 2 * 6 + 6 * 6 + 2 * (2 * 6 + 8 * 2)
    assert plan.read_bytes == 4 * numbers


def test_ranks_add_up_in_the_config_of_one_adapter():
    many = {**factors(rank=4), **factors("h", 2, rank=4)}
    a = candidate(many, r=4, modules_to_save=["x"], target_modules=["q", "h"])
    b = candidate(factors(), "b", use_rslora=True, target_modules=["q"])
    table = json.loads(format_adapter_config([a, b]))
    assert (table["r"], table["lora_alpha"]) == (6, 6)
    assert table["rank_pattern"] == table["alpha_pattern"] == {"h": 4}
    assert table["target_modules"] == ["h", "q"]
    assert (table["use_rslora"], table["modules_to_save"]) == (False, ["x"])
    request = adapter_request([a, b], [1, 3], MergeWish())
    shapes = {t.name.removeprefix(PREFIX): t.shape for t in request.tensors}
    assert shapes == {"q.lora_A.weight": (6, 6), "q.lora_B.weight": (8, 6),
                      "h.lora_A.weight": (4, 6), "h.lora_B.weight": (2, 4)}  # fmt: skip
    scales = {t.name.removeprefix(PREFIX): t.weights for t in request.tensors}
    assert scales["q.lora_B.weight"] == (0.25 * 1.0, 0.75 * 4 / 2**0.5)
    with pytest.raises(WeightError):
        adapter_request([a, b], [1, -1], MergeWish())


@pytest.mark.parametrize("is_transposed", [False, True])
@pytest.mark.parametrize("step", [1, 5, 6, 17, 48])
def test_any_cutting_sees_every_byte_of_the_factors_once(is_transposed, step):
    shapes = factors("c_fc", 6, 8) if is_transposed else factors()
    base = make_base({"c_fc.weight": (8, 6), "q.weight": (8, 6)}, model_type="gpt2")
    request = model_request([candidate(shapes, base=base)], [1.0], MergeWish())
    (added,) = (s.added for t in request.tensors for s in t.sources if s.added)
    assert added.is_transposed == is_transposed
    rows = ([], [])
    for first in range(0, 48, step):
        last = min(first + step, 48)
        for new, read, seen in zip(
            first_seen(added, first, last), factor_ranges(added, first, last), rows, strict=True
        ):
            assert new.first == new.last or (read.first <= new.first and new.last <= read.last)
            seen.extend(range(new.first, new.last))
    assert rows == (list(range(added.a.shape[0])), list(range(added.b.shape[0])))
