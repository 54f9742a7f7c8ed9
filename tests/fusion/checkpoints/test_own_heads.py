"""Adapters that bring their own head: the model is the base's body with that head."""

import pytest

from fusion.checkpoints.adapter import parse_adapter
from fusion.checkpoints.checkpoint import Checkpoint, Pin, PinnedFile, TensorSpec, model_tensors
from fusion.errors import MismatchError
from fusion.plans.adapter_request import adapter_request
from fusion.plans.requests import model_request
from fusion.plans.wish import MergeWish

PREFIX = "base_model.model."
SEQ_CLS = {"peft_type": "LORA", "r": 2, "lora_alpha": 4, "task_type": "SEQ_CLS"}
MASKED = {"bert.q.weight": (6, 6), "cls.predictions.bias": (9,)}
MASKED_CONFIG = {"model_type": "bert", "architectures": ["BertForMaskedLM"]}


def specs(shapes, shard, dtype="F32"):
    return tuple(TensorSpec(name, dtype, shape, shard, 8, 8) for name, shape in shapes.items())


def candidate(saved, *, base, config, module, name="a", **settings):
    files = (PinnedFile("model.safetensors", Pin(8, "1")),)
    whole = Checkpoint("base", "/base", files, specs(base, files[0].name), (), config)
    shapes = {f"{module}.lora_A.weight": (2, 6), f"{module}.lora_B.weight": (6, 2), **saved}
    tensors = specs({PREFIX + n: shape for n, shape in shapes.items()}, "adapter")
    adapter = parse_adapter({**SEQ_CLS, **settings}, tensors, whole, name=name)
    pins = (PinnedFile("adapter", Pin(8, name)),)
    return Checkpoint(name, f"/{name}", pins, tensors, (), adapter.config or {}, "", adapter)


def masked(saved, name="a", **settings):
    return candidate(
        saved, base=MASKED, config=MASKED_CONFIG, module="bert.q", name=name, **settings
    )


def shapes_of(checkpoint):
    return {spec.name: spec.shape for spec in model_tensors(checkpoint)}


def test_the_saved_head_takes_the_place_of_that_of_another_task():
    found = masked({"classifier.weight": (3, 6)}, modules_to_save=["classifier"])
    assert shapes_of(found) == {"bert.q.weight": (6, 6), "classifier.weight": (3, 6)}
    assert found.adapter.left_out == ("cls.predictions.bias",)


def test_older_adapters_save_the_head_of_their_task_without_naming_it():
    assert "score.weight" in shapes_of(masked({"score.weight": (2, 6)}))


def test_the_config_says_the_task_of_the_adapter_and_counts_the_labels_of_its_head():
    found = masked({"classifier.weight": (3, 6)}).config
    assert found["architectures"] == ["BertForSequenceClassification"]
    assert found["id2label"] == {"0": "LABEL_0", "1": "LABEL_1", "2": "LABEL_2"}
    assert "id2label" not in masked({"classifier.weight": (2, 6)}).config


@pytest.mark.parametrize(
    ("architecture", "expected"),
    [
        ("GPT2LMHeadModel", "GPT2ForSequenceClassification"),
        ("LlamaForCausalLM", "LlamaForSequenceClassification"),
        ("XLMRobertaModel", "XLMRobertaForSequenceClassification"),
    ],
)
def test_the_ending_of_the_architecture_is_exchanged(architecture, expected):
    found = candidate(
        {"score.weight": (2, 6)},
        base={"model.q.weight": (6, 6), "lm_head.weight": (9, 6)},
        config={"architectures": [architecture]},
        module="model.q",
    )
    assert found.config["architectures"] == [expected]
    assert shapes_of(found) == {"model.q.weight": (6, 6), "score.weight": (2, 6)}


def test_a_bare_encoder_gets_the_name_of_the_body_that_the_adapter_uses():
    found = candidate(
        {"score.weight": (2, 6)}, base={"h.weight": (6, 6), "wpe.weight": (4, 6)}, config={},
        module="transformer.h",
    )  # fmt: skip
    assert list(shapes_of(found)) == ["transformer.h.weight", "transformer.wpe.weight",
                                      "score.weight"]  # fmt: skip
    (source,) = model_request([found], [1.0], MergeWish()).tensors[0].sources
    assert source.added is not None


def test_a_head_of_another_size_is_replaced_whole():
    found = candidate(
        {"classifier.dense.weight": (6, 6), "classifier.out_proj.weight": (3, 6)},
        base={"roberta.q.weight": (6, 6), "classifier.dense.weight": (6, 6),
              "classifier.out_proj.weight": (2, 6), "lm_head.bias": (9,)},
        config={"architectures": ["RobertaForSequenceClassification"]},
        module="roberta.q",
    )  # fmt: skip
    assert shapes_of(found)["classifier.out_proj.weight"] == (3, 6)
    assert shapes_of(found)["classifier.dense.weight"] == (6, 6)
    assert "lm_head.bias" not in shapes_of(found)
    assert len(found.config["id2label"]) == 3


def test_what_is_no_saved_module_and_not_in_the_base_is_refused():
    with pytest.raises(MismatchError, match=r"replaces strange\.weight, which base does not have"):
        masked({"strange.weight": (3, 6)})
    with pytest.raises(MismatchError, match=r"embed\.weight is F32 \[9, 6\]"):
        candidate(
            {"embed.weight": (9, 6)}, base={"q.weight": (6, 6), "embed.weight": (8, 6)}, config={},
            module="q", modules_to_save=["embed"],
        )  # fmt: skip


def test_the_heads_are_averaged_and_kept_in_an_adapter_too():
    two = [masked({"classifier.weight": (3, 6)}, name) for name in "ab"]
    whole = {t.name: t for t in model_request(two, [1, 3], MergeWish()).tensors}
    assert [s.checkpoint for s in whole["classifier.weight"].sources] == [0, 1]
    one = {t.name: t for t in adapter_request(two, [1, 3], MergeWish(output="adapter")).tensors}
    assert [s.checkpoint for s in one[PREFIX + "classifier.weight"].sources] == [0, 1]
