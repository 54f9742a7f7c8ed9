"""`metafuse merge`: what it may write to, what it says, and the flags it takes."""

import json
import re
import shutil
from pathlib import Path

import pytest
import torch

from cluster.errors import UnsupportedError
from cluster.stores.open_store import open_store
from fusion.canonical import from_json
from fusion.manifests.model import ModelManifest
from jobs.errors import UsageError
from jobs.merge.claim import parse_output
from tests.support.merge_command import DOCUMENT, manifest, merge
from tests.support.merging import random_tensors, write_checkpoint


def snapshot(folder):
    return {p.relative_to(folder): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


# Where it may write.


def test_a_merge_of_another_plan_leaves_what_is_there_alone(capsys, place):
    assert merge(capsys, "m1.yml", "out")[0] == 0
    before = snapshot(place)
    status, _, err = merge(capsys, "m2.yml", "out")
    assert (status, "out holds another merge" in err) == (21, True)
    assert snapshot(place) == before


def test_the_same_merge_again_writes_nothing(capsys, place):
    assert merge(capsys, "m1.yml", "out")[0] == 0
    before = {p: p.stat().st_mtime_ns for p in (place / "out").iterdir()}
    status, out, _ = merge(capsys, "m1.yml", "out")
    assert (status, "nothing was written" in out) == (0, True)
    assert {p: p.stat().st_mtime_ns for p in (place / "out").iterdir()} == before
    status, out, _ = merge(capsys, "m1.yml", "out", "--json")
    assert (status, json.loads(out)["written_bytes"]) == (0, 0)


def test_a_finished_merge_that_was_damaged_is_not_written_over(capsys, place):
    merge(capsys, "m1.yml", "out")
    (place / "out" / "model.safetensors").write_bytes(b"short")
    status, _, err = merge(capsys, "m1.yml", "out")
    assert (status, "model.safetensors" in err) == (21, True)


@pytest.mark.parametrize("out", ["a", "a/", "./b/../a", "a/inside", "."])
@pytest.mark.parametrize("config", ["m1.yml", "block.yaml"])
def test_a_source_is_never_written_to(capsys, place, out, config):
    before = snapshot(place)
    status, _, err = merge(capsys, config, out)
    assert (status, "E-OUTPUT" in err) == (21, True)
    assert snapshot(place) == before


def test_a_link_to_a_source_is_the_source(capsys, place):
    (place / "alias").symlink_to("a")
    before = snapshot(place / "a")
    status, _, err = merge(capsys, "m1.yml", "alias")
    assert (status, "is the source a" in err) == (21, True)
    assert snapshot(place / "a") == before


@pytest.mark.parametrize("name", ["model.safetensors", "config.json", "notes.txt"])
def test_a_folder_with_files_of_others_is_refused(capsys, place, name):
    (place / "out").mkdir()
    (place / "out" / name).write_text("mine")
    before = snapshot(place)
    status, _, err = merge(capsys, "m1.yml", "out")
    assert (status, f"out is not empty: {name}" in err) == (21, True)
    assert snapshot(place) == before


def test_an_empty_folder_is_taken(capsys, place):
    (place / "out").mkdir()
    assert merge(capsys, "m1.yml", "out")[0] == 0


def test_an_interrupted_merge_goes_on_and_another_one_waits_for_it(capsys, place):
    (place / "out" / "manifest.json").mkdir(parents=True)  # the last write fails
    assert merge(capsys, "m1.yml", "out")[0] == 21
    assert (place / "out" / "model.safetensors").exists()
    (place / "out" / "manifest.json").rmdir()
    before = snapshot(place)
    status, _, err = merge(capsys, "m2.yml", "out")
    assert (status, "out.merging.json" in err, "out.ledger-" in err) == (21, True, True)
    assert snapshot(place) == before
    status, out, _ = merge(capsys, "m1.yml", "out", "--json")
    assert (status, json.loads(out)["written_bytes"]) == (0, 0)
    assert {path.name for path in place.iterdir()} & {"out.merging.json"} == set()
    assert not list(place.glob("out.ledger-*"))


# Where that is.


@pytest.mark.parametrize(
    ("out", "uri", "name"),
    [
        ("out", "/here", "out"),
        ("x/out/", "/here/x", "out"),
        ("/abs/out", "/abs", "out"),
        ("../out", "/", "out"),
        ("file:///abs/out", "/abs", "out"),
        ("s3://bucket/out", "s3://bucket", "out"),
        ("s3://bucket/deep/er/out/", "s3://bucket/deep/er", "out"),
        ("memory://place/out", "memory://place", "out"),
    ],
)
def test_an_output_is_a_store_and_a_name(out, uri, name):
    found = parse_output(out, folder="/here")
    assert (found.store.uri, found.name) == (uri, name)


@pytest.mark.parametrize("out", ["s3://bucket", "s3://bucket/", "memory://x", "/", "", "file:///"])
def test_an_output_without_a_name_is_refused_in_plain_words(out):
    with pytest.raises(UsageError, match="names no folder"):
        parse_output(out, folder="/here")


@pytest.mark.parametrize("out", ["s3://bucket/a/../b", "s3://bucket//x", "s3://bucket/./x"])
def test_keys_that_would_leave_or_vanish_are_refused(out):
    with pytest.raises(UsageError, match="is no key"):
        parse_output(out, folder="/here")


def test_other_schemes_are_refused():
    with pytest.raises(UnsupportedError):
        parse_output("gs://bucket/x", folder="/here")


@pytest.mark.s3
def test_a_bucket_is_not_a_local_folder(capsys, place, moto, use):
    use(moto)
    status, _, err = merge(capsys, "m1.yml", "s3://plain")
    assert (status, "names no folder" in err) == (2, True)
    assert not (place / "s3:").exists()
    assert merge(capsys, "m1.yml", "s3://plain/merged-here")[0] == 0
    keys = [e.key for e in open_store("s3://plain/merged-here").list()]
    assert "manifest.json" in keys
    assert not list(open_store("s3://plain").list("merged-here.ledger-"))


# What it says.


def test_softmax_without_losses_is_refused_where_it_stands(capsys, place):
    (place / "block.yaml").write_text("candidates: [a, b]\nmerge: {}\nweights:\n  rule: softmax\n")
    status, _, err = merge(capsys, "block.yaml", "out")
    assert (status, "block.yaml:4: weights.rule: softmax needs losses" in err) == (10, True)


def test_weights_that_were_not_given_are_uniform_and_said_to_be(capsys, place):
    (place / "block.yaml").write_text("candidates: [a, b]\n")
    status, out, err = merge(capsys, "block.yaml", "out")
    assert (status, "uniform (the document gives no weights): a 0.5, b 0.5" in err) == (0, True)
    shutil.rmtree(place / "out")
    status, out, _ = merge(capsys, "block.yaml", "out", "--json")
    assert json.loads(out)["weights"] == {"a": 0.5, "b": 0.5}


# Flags.


def test_a_local_merge_makes_a_crc_and_a_sha256_when_asked(capsys, place):
    merge(capsys, "m1.yml", "out")
    entry = next(f for f in manifest(place).files if f.name == "model.safetensors")
    assert entry.crc64nvme
    assert not entry.sha256
    shutil.rmtree(place / "out")
    merge(capsys, "m1.yml", "out", "--digest", "sha256")
    entry = next(f for f in manifest(place).files if f.name == "model.safetensors")
    assert entry.crc64nvme
    assert len(entry.sha256) == 64


@pytest.mark.s3
def test_a_merge_to_s3_makes_a_sha256_unless_told_otherwise(capsys, place, moto, use):
    use(moto)
    for extra, length in (((), 64), (("--digest", "crc64nvme"), 0)):
        name = f"digest-{length}"
        assert merge(capsys, "m1.yml", f"s3://plain/{name}", *extra)[0] == 0
        content = open_store(f"s3://plain/{name}").read("manifest.json")
        files = from_json(ModelManifest, content).files
        assert {len(f.sha256) for f in files if f.name == "model.safetensors"} == {length}


def test_shards_are_as_large_as_asked_for(capsys, place):
    merge(capsys, "m1.yml", "out", "--out-shard-size", "20K")
    assert len(list((place / "out").glob("model-*.safetensors"))) == 2


@pytest.mark.parametrize("size", ["0", "-1", "lots", "5T"])
def test_a_shard_size_that_is_none_is_a_wrong_usage(capsys, place, size):
    assert merge(capsys, "m1.yml", "out", "--out-shard-size", size)[0] == 2


def test_card_and_tokenizer_can_be_left_out(capsys, place):
    merge(capsys, "m1.yml", "out")
    assert {"README.md", "vocab.txt"} <= {p.name for p in (place / "out").iterdir()}
    shutil.rmtree(place / "out")
    merge(capsys, "m1.yml", "out", "--no-write-model-card", "--no-copy-tokenizer")
    names = {p.name for p in (place / "out").iterdir()}
    assert names == {"config.json", "manifest.json", "model.safetensors"}


def test_flags_without_a_meaning_here_are_named_once(capsys, place):
    flags = ["--lazy-unpickle", "--low-cpu-memory", "--clone-tensors", "--async-write"]
    flags += ["--transformers-cache", "/x", "--random-seed", "7", "-j", "1", "--no-cuda"]
    status, _, err = merge(capsys, "m1.yml", "out", *flags)
    lines = [line for line in err.splitlines() if "no meaning here" in line]
    assert status == 0
    assert len(lines) == 1
    assert lines[0].startswith("warning")
    for flag in ("--lazy-unpickle", "--low-cpu-memory", "--random-seed", "--transformers-cache"):
        assert flag in lines[0]
    assert "--no-cuda" not in lines[0]


@pytest.mark.parametrize(
    "flag", ["--trust-remote-code", "--allow-crimes", "--no-safe-serialization"]
)
def test_dangerous_flags_are_refused_with_a_reason(capsys, place, flag):
    status, _, err = merge(capsys, "m1.yml", "out", flag)
    assert (status, f"{flag} is refused:" in err) == (2, True)
    assert not (place / "out").exists()


def test_the_denial_of_a_dangerous_flag_is_fine(capsys, place):
    assert merge(capsys, "m1.yml", "out", "--no-allow-crimes", "--no-trust-remote-code")[0] == 0


def test_a_device_that_is_not_there_is_refused_before_anything_is_written(
    capsys, place, monkeypatch
):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    status, _, err = merge(capsys, "m1.yml", "out", "--cuda")
    assert (status, "no CUDA device" in err) == (10, True)
    status, _, err = merge(capsys, "m1.yml", "out", "--device", "quantum")
    assert (status, "'quantum'" in err) == (10, True)
    assert not (place / "out").exists()


# What it says of its sources and of itself.


def test_it_says_how_many_sources_were_read_with_a_check(capsys, place):
    assert (
        "0 of 2 source files carry a digest, they are read unchecked"
        in merge(capsys, "m1.yml", "first")[2]
    )
    write_checkpoint(place / "c", random_tensors(2))
    (place / "m3.yml").write_text(DOCUMENT.replace("model: a", "model: first"))
    said = merge(capsys, "m3.yml", "second")[2]
    assert "1 of 2 source files carry a digest, the others are read unchecked" in said
    status, out, _ = merge(capsys, "m3.yml", "third", "--json")
    assert (status, json.loads(out)["num_checked"], json.loads(out)["num_sources"]) == (0, 1, 2)


def test_the_peak_that_it_says_is_that_of_the_process(capsys, place):
    out = json.loads(merge(capsys, "m1.yml", "out", "--json")[1])
    status = Path("/proc/self/status").read_text()
    peak = int(re.search(r"VmHWM:\s*(\d+) kB", status)[1]) * 1024
    # The kernel counts pages by thread and adds them up now and then: its peaks differ a little.
    assert 0.98 * peak <= out["peak_bytes"] <= peak + (1 << 20)
