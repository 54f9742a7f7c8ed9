"""Every file of a checkpoint goes with a model, or is named with the reason, or is refused."""

import json
import uuid

import pytest

from fusion.errors import MismatchError
from jobs.candidates.pin import pin_checkpoint
from jobs.candidates.shards import INDEX
from tests.support.checkpoints import (
    PICKLE,
    shard_bytes,
    sharded_checkpoint,
    whole_checkpoint,
    write_files,
)


def pin(files, whole=None):
    place = f"memory://{uuid.uuid4().hex}"
    write_files(place, (whole_checkpoint() if whole is None else whole) | files)
    return pin_checkpoint(place, name="s")[0]


def sides(checkpoint):
    return {file.name for file in checkpoint.side_files} - {"config.json", "vocab.txt"}


def modules(*paths):
    table = [{"idx": i, "name": str(i), "path": path} for i, path in enumerate(paths)]
    return {"modules.json": json.dumps(table).encode()}


TRAVELS = (
    "generation_config.json", "tokenizer.json", "tokenizer_config.json", "vocab.json", "vocab.bpe",
    "merges.txt", "special_tokens_map.json", "added_tokens.json", "spiece.model", "source.spm",
    "sentencepiece.bpe.model", "chat_template.jinja", "chat_template.json", "tekken.json",
    "bpe.codes", "qwen.tiktoken", "vocab-src.json", "dict.txt", "normalizer.json",
    "processor_config.json", "preprocessor_config.json", "video_preprocessor_config.json",
    "config_sentence_transformers.json", "sentence_bert_config.json", "LICENSE", "LICENSE.md",
    "NOTICE.txt", "USE_POLICY.md", "configuration_custom.py", "modeling_custom.py",
    "tokenization_custom.py", "additional_chat_templates/tool_use.jinja",
)  # fmt: skip


@pytest.mark.parametrize("name", TRAVELS)
def test_what_a_library_reads_goes_with_the_model(name):
    table = json.dumps({"model": {"vocab": {"a": 0}}} if name == "tokenizer.json" else {}).encode()
    checkpoint = pin({name: table})
    assert sides(checkpoint) == {name}
    assert checkpoint.left_behind == ()


STAYS = {
    "optimizer.pt": "state of the training", "training_args.bin": "state of the training",
    "trainer_state.json": "state of the training", "rng_state_0.pth": "state of the training",
    "scheduler.bin": "state of the training", "events.out.tfevents.1": "state of the training",
    "all_results.json": "state of the training", "zero_to_fp32.py": "state of the training",
    "pytorch_model.bin": "the tensors in another format",
    "pytorch_model-00001-of-00002.bin": "the tensors in another format",
    "tf_model.h5": "the tensors in another format", "model.onnx": "the tensors in another format",
    "consolidated.00.pth": "the tensors in another format",
    "consolidated.safetensors": "the tensors in another format",
    "last.ckpt": "the tensors in another format", "m.Q4_K.gguf": "the tensors in another format",
    ".gitattributes": "a hidden file", "notes.txt": "no part of a model that is known",
    "config.json.py": "no part of a model that is known", "a b.json": "a name that is not taken",
    "vocab\x1b[2J.txt": "a name that is not taken",
}  # fmt: skip


@pytest.mark.parametrize("name", STAYS)
def test_what_stays_behind_is_named_with_the_reason(name):
    checkpoint = pin({name: PICKLE})
    (entry,) = checkpoint.left_behind
    assert entry.name == name
    assert entry.reason.startswith(STAYS[name])
    assert sides(checkpoint) == set()


def test_folders_are_named_once():
    nested = {f"checkpoint-5/{name}": b"x" for name in ("model.safetensors", "optimizer.pt")}
    checkpoint = pin(nested | {"onnx/model.onnx": b"x", ".cache/a": b"x"})
    assert [(entry.name, entry.reason) for entry in checkpoint.left_behind] == [
        (".cache/", "a hidden file"),
        ("checkpoint-5/", "a folder of its own"),
        ("onnx/", "a folder of its own"),
    ]


@pytest.mark.parametrize("name", ["README.md", "manifest.json", INDEX])
def test_what_every_model_has_of_its_own_is_not_named(name):
    whole = sharded_checkpoint() | {"vocab.txt": b"a\n"}
    checkpoint = pin({} if name == INDEX else {name: b"x"}, whole)
    assert (sides(checkpoint), checkpoint.left_behind) == (set(), ())


LOST = {
    "a shard that no index names": {"model-00003-of-00003.safetensors": shard_bytes()},
    "another head": {"heads.safetensors": shard_bytes()},
    "a pickled head": {"value_head.bin": PICKLE},
    "a projector": {"mm_projector.pt": PICKLE},
    "a dense layer": modules("", "1_Pooling", "2_Dense") | {"2_Dense/model.safetensors": b"x"},
    "a pickled dense layer": modules("", "2_Dense") | {"2_Dense/pytorch_model.bin": PICKLE},
    "a layer deeper inside": modules("", "2_Dense") | {"2_Dense/a/model.safetensors": b"x"},
}


@pytest.mark.parametrize("files", LOST.values(), ids=LOST)
def test_tensors_that_would_be_lost_are_refused(files):
    lost = next(name for name in files if name != "modules.json")
    with pytest.raises(MismatchError, match="would be lost") as refused:
        pin(files)
    assert lost in str(refused.value)
    assert refused.value.code == "E-TENSORS"


def test_the_modules_of_sentence_transformers_go_with_the_model():
    files = modules("", "1_Pooling", "2_Normalize") | {"1_Pooling/config.json": b"{}"}
    checkpoint = pin(files | {"3_Other/config.json": b"{}"})
    assert sides(checkpoint) == {"modules.json", "1_Pooling/config.json"}
    assert [entry.name for entry in checkpoint.left_behind] == ["3_Other/"]


@pytest.mark.parametrize("path", ["..", "../x", "a/../b", "/etc", 5, None, ".", "a//b"])
def test_modules_outside_of_the_checkpoint_are_refused(path):
    with pytest.raises(MismatchError, match="does not name the parts of the model"):
        pin(modules("", path))


def test_a_broken_list_of_modules_is_refused():
    with pytest.raises(MismatchError, match="does not name the parts"):
        pin({"modules.json": b"{}"})
