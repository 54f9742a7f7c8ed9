"""A candidate without the tokenizer of its embedding is refused before anything is evaluated."""

import json
import re
import uuid

import pytest

from jobs.candidates.pin import pin_checkpoint
from jobs.candidates.tokenizers import check_tokenizer
from jobs.errors import ModelError
from tests.support.checkpoints import BERT, shard_bytes, write_files

ROWS = 5
WORDS = "[PAD]\n[UNK]\n[CLS]\n[SEP]\ngood\n"


def check(files, *, config=None, embedding="bert.embeddings.word_embeddings.weight"):
    place = f"memory://{uuid.uuid4().hex}"
    shard = shard_bytes({"classifier.weight": ("F32", (2, 4)), embedding: ("F32", (ROWS, 4))})
    table = BERT if config is None else BERT | config
    whole = {"model.safetensors": shard, "config.json": json.dumps(table)}
    write_files(
        place, {k: v.encode() if isinstance(v, str) else v for k, v in (whole | files).items()}
    )
    check_tokenizer(*pin_checkpoint(place, name="s"))


def fast(words, **more):
    table = {"model": {"type": "WordPiece", "vocab": {w: i for i, w in enumerate(words)}}}
    return {"tokenizer.json": json.dumps(table | more)}


def around(kind):
    """A post-processor that puts id 7 around texts."""
    return {
        "template": {
            "type": "TemplateProcessing",
            "special_tokens": {"[CLS]": {"id": "[CLS]", "ids": [7], "tokens": ["[CLS]"]}},
        },
        "bert": {"type": "BertProcessing", "sep": ["[SEP]", 3], "cls": ["[CLS]", 7]},
    }[kind]


REFUSED = {
    "no files": ({}, "has no tokenizer files"),
    "settings alone": (
        {"tokenizer_config.json": json.dumps({"tokenizer_class": "BertTokenizer"})},
        "has no tokenizer files",
    ),
    "half of them": ({"vocab.json": json.dumps({"a": 0})}, "vocab.json without merges.txt"),
    "merges alone": ({"merges.txt": "a b\n"}, "has no tokenizer files"),
    "one word too many": ({"vocab.txt": WORDS + "bad\n"}, "1 of its tokens .* 'bad' with id 5"),
    "a hole": ({"vocab.json": json.dumps({"a": 900}), "merges.txt": ""}, "'a' with id 900"),
    "an added token": (
        fast("abcd", added_tokens=[{"id": 5, "content": "<new>"}]), "'<new>' with id 5",
    ),
    "around, template": (
        fast("abcd", post_processor=around("template")), r"of \[CLS\] around a text' with id 7",
    ),
    "around, of Bert": (
        fast("abcd", post_processor=around("bert")), r"of \[CLS\] around a text' with id 7",
    ),
    "around, in a list": (
        fast("abcd", post_processor={"type": "Sequence", "processors": [around("bert")]}),
        r"of \[CLS\] around a text' with id 7",
    ),
    "a special token that no file numbers": (
        {"vocab.txt": WORDS, "tokenizer_config.json": json.dumps({"pad_token": "<pad>"})},
        "'<pad>' with id 5",
    ),
    "one written as an object": (
        {"vocab.txt": WORDS, "special_tokens_map.json": '{"pad_token": {"content": "<pad>"}}'},
        "'<pad>' with id 5",
    ),
}  # fmt: skip


@pytest.mark.parametrize(("files", "reason"), REFUSED.values(), ids=REFUSED)
def test_a_tokenizer_that_is_not_that_of_the_embedding_is_refused(files, reason):
    with pytest.raises(ModelError, match=reason) as refused:
        check(files)
    assert refused.value.hint
    assert refused.value.code == "E-MODEL"


def test_a_padding_id_outside_of_the_embedding_is_refused():
    with pytest.raises(ModelError, match=re.escape("pad_token_id of config.json")):
        check({"vocab.txt": WORDS}, config={"pad_token_id": ROWS})


@pytest.mark.parametrize(
    "files",
    [
        {"vocab.txt": WORDS},
        {"vocab.txt": "a\nb\n"},
        {"vocab.json": json.dumps({"a": 0}), "merges.txt": "#version: 0.2\n"},
        fast("abcde"),
        {"vocab.txt": WORDS, "tokenizer_config.json": json.dumps({"pad_token": "[PAD]"})},
        {"spiece.model": "\n\x0e1"},
    ],
    ids=["as many as rows", "padded embedding", "of GPT-2", "fast", "named", "sentencepiece"],
)
def test_a_tokenizer_that_fits_is_none_of_this(files):
    check(files)


@pytest.mark.parametrize(
    "embedding",
    ["transformer.wte.weight", "model.embed_tokens.weight", "shared.weight", "embed_in.weight"],
)
def test_the_embedding_of_every_family_is_found(embedding):
    with pytest.raises(ModelError, match=f"embedding of {ROWS} rows"):
        check({"vocab.txt": WORDS + "bad\n"}, embedding=embedding)


def test_where_no_tensor_is_the_embedding_the_config_tells_its_rows():
    check({"vocab.txt": WORDS}, embedding="w", config={"vocab_size": ROWS})
    with pytest.raises(ModelError, match="embedding of 4 rows"):
        check({"vocab.txt": WORDS}, embedding="w", config={"vocab_size": 4})
