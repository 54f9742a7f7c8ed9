import json
import uuid

import pytest

from cluster.stores.open_store import open_store
from fusion.checkpoints.checkpoint import Pin, PinnedFile
from jobs.candidates.pin import pin_checkpoint
from jobs.candidates.side_files import MAX_TOKENIZER_BYTES, read_tokenizer
from jobs.errors import IncompleteError
from tests.support.checkpoints import shard_bytes, write_files

WORDS = {"[PAD]": 0, "a": 1, "b": 2, "ab": 3}
MERGES = ["a b"]


def as_bytes(value):
    return value if isinstance(value, bytes) else json.dumps(value).encode()


def read(files):
    """(vocabulary, digest) of a checkpoint with these tokenizer files."""
    place = f"memory://{uuid.uuid4().hex}"
    shard = {"model.safetensors": shard_bytes()}
    write_files(place, shard | {name: as_bytes(content) for name, content in files.items()})
    checkpoint, vocabulary = pin_checkpoint(place, name="s")
    return vocabulary, checkpoint.tokenizer_digest


def fast(words=WORDS, merges=(), added=(), **more):
    model = {"type": "BPE", "vocab": words, "merges": list(merges)}
    return {"tokenizer.json": {"model": model, "added_tokens": list(added), **more}}


def test_without_tokenizer_there_is_neither_vocabulary_nor_digest():
    assert read({}) == ({}, "")


@pytest.mark.parametrize(
    "files",
    [
        fast(),
        {"vocab.json": WORDS},
        {"vocab.txt": b"[PAD]\na\nb\nab\n"},
        {"vocab.txt": b"[PAD]\r\na\r\nb\r\nab"},
        fast({"a": 1, "b": 2, "ab": 3}, added=[{"id": 0, "content": "[PAD]", "special": True}]),
        {"vocab.json": {"a": 1, "b": 2, "ab": 3}, "added_tokens.json": {"[PAD]": 0}},
        fast(dict(reversed(WORDS.items())), version="1.0", truncation=None),
    ],
    ids=["fast", "json", "txt", "txt of Windows", "fast, added", "json, added", "other order"],
)
def test_the_same_vocabulary_has_the_same_digest_in_every_file_format(files):
    assert read(files) == read(fast())
    assert read(files)[0] == WORDS


def test_merges_count_and_have_one_meaning_in_every_format():
    digests = [
        read(files)[1]
        for files in (
            fast(merges=MERGES),
            fast(merges=[["a", "b"]]),
            {"vocab.json": WORDS, "merges.txt": b"#version: 0.2\na b\n\n"},
        )
    ]
    assert len(set(digests)) == 1
    assert digests[0] != read(fast())[1]


@pytest.mark.parametrize(
    "files",
    [
        fast({**WORDS, "c": 4}),
        fast({**WORDS, "ab": 4}),
        fast(added=[{"id": 4, "content": "<new>"}]),
        {"vocab.txt": b"[PAD]\na\nab\nb\n"},
    ],
    ids=["one more", "another id", "added", "another order"],
)
def test_any_other_vocabulary_has_another_digest(files):
    assert read(files)[1] != read(fast())[1]


def test_a_unigram_model_is_read_with_its_scores():
    def unigram(score):
        return {"tokenizer.json": {"model": {"vocab": [["<unk>", 0.0], ["▁a", score]]}}}

    vocabulary, digest = read(unigram(-1.5))
    assert vocabulary == {"<unk>": 0, "▁a": 1}
    assert digest == read(unigram(-1.5))[1] != read(unigram(-2.5))[1]


def test_lines_end_at_line_feeds_alone():
    text = "[PAD]\n\u2028\n\x85\n\x0b\nend\n"
    assert read({"vocab.txt": text.encode()})[0] == {
        "[PAD]": 0, "\u2028": 1, "\x85": 2, "\x0b": 3, "end": 4,
    }  # fmt: skip


def test_of_sentencepiece_models_every_byte_counts():
    one, other = b"\n\x0e1", b"\n\x0e2"
    digests = [
        read(files)[1]
        for files in (
            {"spiece.model": one},
            {"spiece.model": other},
            {"source.model": one, "target.model": one},
            {"source.model": one, "target.model": other},
        )
    ]
    assert len(set(digests)) == 4
    assert read({"spiece.model": one}) == ({}, digests[0])


BROKEN = {
    "half a file": {"tokenizer.json": b'{"model":'},
    "not UTF-8": {"vocab.json": b'{"\xff": 1}'},
    "a list": {"tokenizer.json": []},
    "no model": {"tokenizer.json": {}},
    "a model that is text": {"tokenizer.json": {"model": "BPE"}},
    "words that are a number": fast(5),
    "words that are text": {"tokenizer.json": {"model": {"vocab": "abc"}}},
    "ids that are text": fast({"a": "1"}),
    "ids that are fractions": fast({"a": 1.5}),
    "ids that are bools": fast({"a": True}),
    "ids below zero": fast({"a": -1}),
    "ids that are null": {"vocab.json": {"a": None}},
    "unigram of numbers": {"tokenizer.json": {"model": {"vocab": [1, 2]}}},
    "unigram of triples": {"tokenizer.json": {"model": {"vocab": [["a", 1.0, 2]]}}},
    "unigram with odd scores": {"tokenizer.json": {"model": {"vocab": [["a", "b"]]}}},
    "unigram with a list as token": {"tokenizer.json": {"model": {"vocab": [[["a"], 1.0]]}}},
    "merges of numbers": fast(merges=[1]),
    "merges of lists of numbers": fast(merges=[[1, 2]]),
    "merges that are a number": {"tokenizer.json": {"model": {"vocab": {}, "merges": 3}}},
    "added without id": fast(added=[{"content": "x"}]),
    "added that is text": fast(added=["x"]),
    "added that is a number": {"tokenizer.json": {"model": {"vocab": {}}, "added_tokens": 7}},
    "added tokens that are a list": {"vocab.txt": b"a\n", "added_tokens.json": []},
    "a token given twice": {"vocab.json": b'{"a": 1, "a": 2}'},
    "deep": {"tokenizer.json": b"[" * 100_000},
    "a number of 5,000 digits": {"vocab.json": b'{"a":' + b"9" * 5000 + b"}"},
}


@pytest.mark.parametrize("files", BROKEN.values(), ids=BROKEN)
def test_a_broken_tokenizer_is_one_clear_error(files):
    with pytest.raises(IncompleteError, match=r"^s/(tokenizer|vocab|added_tokens)\.?[a-z]*"):
        read(files)


def test_a_tokenizer_that_is_too_large_is_not_read():
    huge = PinnedFile("vocab.txt", Pin(MAX_TOKENIZER_BYTES + 1, "e"))
    store = open_store(f"memory://{uuid.uuid4().hex}")
    with pytest.raises(IncompleteError, match="at most 67,108,864 are read"):
        read_tokenizer(store, [huge], name="s")
