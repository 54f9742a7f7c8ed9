"""A model is never evaluated with a tokenizer that a library made up."""

import json

import pytest

from jobs.candidates.pin import pin_checkpoint
from jobs.errors import ModelError
from jobs.models.families import load_model
from tests.support.tiny_models import write_classifier

KINDS = ("bert", "roberta", "gpt2")


def load(folder):
    return load_model(pin_checkpoint(str(folder), name="m")[0])


@pytest.mark.parametrize("kind", KINDS)
def test_without_tokenizer_files_no_model_is_loaded(tmp_path, kind):
    write_classifier(tmp_path, kind)
    for path in tmp_path.glob("token*"):
        path.unlink()
    with pytest.raises(ModelError, match="m has no tokenizer files"):
        load(tmp_path)


@pytest.mark.parametrize("kind", KINDS)
def test_a_tokenizer_larger_than_the_embedding_is_refused(tmp_path, kind):
    write_classifier(tmp_path, kind)
    path = tmp_path / "tokenizer.json"
    table = json.loads(path.read_text())
    size = len(table["model"]["vocab"])
    flags = dict.fromkeys(("single_word", "lstrip", "rstrip", "normalized", "special"), False)
    table["added_tokens"].append({"id": size, "content": "<new>", **flags})
    path.write_text(json.dumps(table))
    with pytest.raises(ModelError, match="'<new>' with id"):
        load(tmp_path)


def test_a_special_token_that_the_library_would_add_is_refused(tmp_path):
    write_classifier(tmp_path, "gpt2")
    path = tmp_path / "tokenizer_config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "pad_token": "<pad>"}))
    with pytest.raises(ModelError, match="'<pad>' with id"):
        load(tmp_path)


@pytest.mark.parametrize(
    "damage", [{"pre_tokenizer": {"type": "Unheard"}}, {"model": {"vocab": {}}}]
)
def test_a_tokenizer_that_the_library_cannot_read_is_an_error_of_the_model(tmp_path, damage):
    write_classifier(tmp_path, "bert")
    path = tmp_path / "tokenizer.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **damage}))
    with pytest.raises(ModelError, match=r"no tokenizer (that can be loaded|files)"):
        load(tmp_path)


@pytest.mark.parametrize("kind", ["roberta", "gpt2"])
def test_tokens_that_the_library_numbers_otherwise_than_the_files_are_refused(tmp_path, kind):
    write_classifier(tmp_path, kind)
    (tmp_path / "tokenizer.json").unlink()
    (tmp_path / "tokenizer_config.json").unlink()
    (tmp_path / "vocab.txt").write_text("fine\nodd\n")
    with pytest.raises(ModelError, match="reads another tokenizer than its files hold"):
        load(tmp_path)
