"""What a shard is that is none: each kind has its sentence and is skipped by name."""

import gzip
import json

import pytest

from jobs.candidates.contents import find_content
from jobs.candidates.shards import INDEX, SINGLE
from tests.support.checkpoints import (
    find,
    names,
    raw_shard,
    shard_bytes,
    whole_checkpoint,
    write_files,
)

POINTER = b"version https://git-lfs.github.com/spec/v1\noid sha256:4d7a\nsize 268290900\n"
PAGE = b"\n<!DOCTYPE html>\n<html><head><title>Sign in</title></head></html>"
KINDS = {
    "Git LFS pointer": POINTER,
    "web page": PAGE,
    "answer of a server": b"<?xml version='1.0'?><Error><Code>AccessDenied</Code></Error>",
    "packed with gzip": gzip.compress(shard_bytes() * 20),
    "packed with zstd": b"\x28\xb5\x2f\xfd" + b"\x01" * 300,
    "packed with xz": b"\xfd7zXZ\x00" + b"\x01" * 300,
    "packed with bzip2": b"BZh91AY" + b"\x01" * 300,
    "GGUF file": b"GGUF\x03\0\0\0" + b"\x01" * 300,
    "zeros from its first byte": bytes(4096),
}


@pytest.mark.parametrize("kind", KINDS)
def test_a_file_that_is_not_what_its_name_says_is_skipped_by_what_it_is(tmp_path, kind):
    write_files(tmp_path / "runs/good", whole_checkpoint())
    write_files(tmp_path / "runs/odd", {**whole_checkpoint(), SINGLE: KINDS[kind]})
    found = find(tmp_path / "runs")
    assert names(found) == ["good"]
    (skipped,) = found.skipped
    assert (skipped.name, skipped.code) == ("odd", "E-INCOMPLETE")
    assert skipped.reason.startswith(f"odd/{SINGLE} is ")
    assert kind in skipped.reason


@pytest.mark.parametrize("file", ["config.json", "tokenizer.json", INDEX])
@pytest.mark.parametrize(("content", "kind"), [(POINTER, "Git LFS pointer"), (PAGE, "a web page")])
def test_a_side_file_that_is_something_else_is_named_so(tmp_path, file, content, kind):
    write_files(tmp_path / "s", {**whole_checkpoint(), file: content})
    (skipped,) = find(tmp_path / "s").skipped
    assert f"s/{file} is " in skipped.reason
    assert kind in skipped.reason


def test_of_a_header_nothing_odd_is_said():
    assert find_content(shard_bytes()) is None
    assert find_content(b"") is None


def test_an_index_beside_a_whole_file_that_it_does_not_name_is_stale(tmp_path):
    index = json.dumps({"weight_map": {"a": "model-00001-of-00002.safetensors"}}).encode()
    write_files(tmp_path / "s", {**whole_checkpoint(), INDEX: index})
    (skipped,) = find(tmp_path / "s").skipped
    assert f"{INDEX} is stale: it names 1 shards that are not there" in skipped.reason


def test_metadata_of_null_is_read_as_none(tmp_path):
    write_files(tmp_path / "s", {SINGLE: raw_shard({"__metadata__": None, "w": U8}, b"\0")})
    assert names(find(tmp_path / "s")) == ["s"]


@pytest.mark.parametrize("name", ["layer.weight", "layer.bias", "q.lora_A.weight"])
def test_weights_without_elements_are_what_zero3_leaves(tmp_path, name):
    table = {"w": U8, name: {"dtype": "BF16", "shape": [0], "data_offsets": [1, 1]}}
    write_files(tmp_path / "s", {SINGLE: raw_shard(table, b"\0")})
    (skipped,) = find(tmp_path / "s").skipped
    assert "1 of 1 weights are empty" in skipped.reason
    assert "ZeRO-3" in skipped.reason


def test_a_buffer_without_elements_is_no_husk(tmp_path):
    table = {"w": U8, "loss.cache": {"dtype": "F32", "shape": [0], "data_offsets": [1, 1]}}
    write_files(tmp_path / "s", {SINGLE: raw_shard(table, b"\0")})
    assert names(find(tmp_path / "s")) == ["s"]


U8 = {"dtype": "U8", "shape": [1], "data_offsets": [0, 1]}
