"""JSON beside a model is bounded before it is parsed, here or by a library."""

import json
import tracemalloc

import pytest

from jobs.candidates.marks import check_marks
from jobs.errors import IncompleteError
from tests.support.checkpoints import find, names, whole_checkpoint, write_files


def skipped(tmp_path, file, content):
    write_files(tmp_path / "s", {**whole_checkpoint(), file: content})
    found = find(tmp_path / "s")
    assert names(found) == []
    return found.skipped[0].reason


@pytest.mark.parametrize("file", ["tokenizer.json", "tokenizer_config.json"])
@pytest.mark.long
def test_lists_that_would_grow_in_memory_are_refused_before_they_are_parsed(tmp_path, file):
    # Broken at its end: what parses it first says something else.
    content = b'{"a": [' + b"[]," * (9 << 20) + b"[]"
    reason = skipped(tmp_path, file, content)
    assert f"s/{file} has more than 8,000,000 strings, lists, objects and commas" in reason


def test_marks_are_counted_without_more_memory():
    content = b"[" + b"[]," * (1 << 20) + b"[]]"
    tracemalloc.start()
    with pytest.raises(IncompleteError):
        check_marks(content, "x", most=100_000)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < len(content)


@pytest.mark.parametrize("file", ["generation_config.json", "special_tokens_map.json"])
def test_json_above_64_mib_is_refused_by_its_size(tmp_path, file):
    reason = skipped(tmp_path, file, b"{}" + b" " * (64 << 20))
    assert f"s/{file} has 67,108,866 bytes, at most 67,108,864 are read" in reason


def test_a_large_vocabulary_is_read(tmp_path):
    tokens = {f"token-{number}": number for number in range(300_000)}
    write_files(tmp_path / "s", {**whole_checkpoint(), "vocab.json": json.dumps(tokens).encode()})
    assert names(find(tmp_path / "s")) == ["s"]


def test_marks_inside_strings_do_not_count():
    check_marks(json.dumps(["[,{" * 100] * 10).encode(), "x", most=40)
    with pytest.raises(IncompleteError):
        check_marks(b"[[],[],[]]", "x", most=5)
