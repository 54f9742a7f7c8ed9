"""`metafuse merge`: what it may write to, what it says, and the flags it takes."""

import json
import re
import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from cluster.errors import UnsupportedError
from cluster.stores.open_store import open_store
from fusion.canonical import from_json
from fusion.manifests.model import ModelManifest
from jobs.cli.main import main
from jobs.errors import UsageError
from jobs.merge.claim import parse_output
from tests.support.merging import random_tensors, write_checkpoint

DOCUMENT = """\
models:
  - {model: a, parameters: {weight: 0.25}}
  - {model: b, parameters: {weight: 0.75}}
merge_method: linear
"""
BLOCK = "candidates: [a, b]\nweights: {rule: uniform}\n"


@pytest.fixture
def place(tmp_path, monkeypatch):
    """A folder with checkpoints a and b and two documents; commands run in it."""
    for seed, name in enumerate("ab"):
        folder = write_checkpoint(tmp_path / name, random_tensors(seed))
        (folder / "vocab.txt").write_text("[PAD]\n[UNK]\ngood\n")
    (tmp_path / "m1.yml").write_text(DOCUMENT)
    (tmp_path / "m2.yml").write_text(DOCUMENT.replace("0.25", "0.5"))
    (tmp_path / "block.yaml").write_text(BLOCK)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def merge(capsys, *arguments):
    """Exit status, stdout and stderr of `metafuse merge`."""
    with pytest.raises(SystemExit) as left:
        main(["merge", *map(str, arguments)])
    captured = capsys.readouterr()
    return left.value.code, captured.out, captured.err


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


# Do the sources fit?


def test_documents_compare_vocabularies(capsys, place):
    (place / "b" / "vocab.txt").write_text("[PAD]\ngood\n[UNK]\n")
    status, _, err = merge(capsys, "m1.yml", "out")
    assert (status, "E-VOCABULARY" in err, "id 1 is" in err) == (12, True, True)
    assert not (place / "out").exists()


def test_documents_compare_what_changes_the_mathematics(capsys, place):
    config = {"model_type": "test", "rope_theta": 5e5, "eos_token_id": 7}
    (place / "b" / "config.json").write_text(json.dumps(config))
    status, _, err = merge(capsys, "m1.yml", "out")
    assert (status, "config rope_theta" in err) == (12, True)
    assert "eos_token_id is 7 in b" in err
    del config["rope_theta"]
    (place / "b" / "config.json").write_text(json.dumps(config))
    status, _, err = merge(capsys, "m1.yml", "out")
    assert (status, "warning" in err, "eos_token_id is 7 in b" in err) == (0, True, True)


def test_names_and_constants_that_trainers_leave_behind_do_not_stop_a_merge(capsys, place):
    plain = {f"bert.{name}": tensor for name, tensor in random_tensors(1).items()}
    other = {name: tensor + 1 for name, tensor in plain.items()}
    wrapped = {f"_orig_mod.{name}": tensor for name, tensor in other.items()}
    wrapped["_orig_mod.bert.embeddings.position_ids"] = torch.arange(9)[None]
    write_checkpoint(place / "a", plain)
    write_checkpoint(place / "b", wrapped)
    for document, share in (("m1.yml", 0.75), ("block.yaml", 0.5)):
        status, _, err = merge(capsys, document, f"out-{document}")
        assert (status, err.count("6 of 6 tensors are called otherwise")) == (0, 1)
        assert err.count("left out: bert.embeddings.position_ids (constants") == 1
        fused = load_file(place / f"out-{document}" / "model.safetensors")
        assert fused.keys() == plain.keys()
        mean = plain["bert.a.weight"].double() + share
        assert torch.allclose(fused["bert.a.weight"].double(), mean, rtol=0, atol=1e-6)


@pytest.mark.parametrize("kind", ["qwen3", "gemma2", "phi3", "cohere"])
def test_a_tied_head_in_one_model_alone_is_written_by_a_document_and_left_out_by_a_block(
    capsys, place, kind
):
    config = {"model_type": kind, "tie_word_embeddings": True}
    tensors = random_tensors(1, shapes={"model.embed_tokens.weight": (4, 4)})
    head = {"lm_head.weight": tensors["model.embed_tokens.weight"].clone()}
    write_checkpoint(place / "a", tensors | head, config)
    write_checkpoint(place / "b", tensors, config)
    status, _, err = merge(capsys, "m1.yml", "document")
    assert (status, "left out" in err) == (0, False)
    written = load_file(place / "document" / "model.safetensors")
    assert torch.equal(written["lm_head.weight"], written["model.embed_tokens.weight"])
    status, _, err = merge(capsys, "block.yaml", "block")
    assert (status, "left out: lm_head.weight (a copy of the embedding" in err) == (0, True)
    assert list(load_file(place / "block" / "model.safetensors")) == ["model.embed_tokens.weight"]


def test_a_source_with_digests_and_other_names_is_still_checked(capsys, place):
    wrapped = {f"module.{name}": tensor for name, tensor in random_tensors(1).items()}
    write_checkpoint(place / "a", wrapped)
    write_checkpoint(place / "b", wrapped)
    (place / "b" / "vocab.txt").write_bytes((place / "a" / "vocab.txt").read_bytes())
    assert merge(capsys, "block.yaml", "a-and-b")[0] == 0
    shutil.rmtree(place / "b")
    (place / "a-and-b").rename(place / "b")
    write_checkpoint(place / "a", random_tensors(1))
    assert merge(capsys, "m1.yml", "out")[0] == 0
    damaged = bytearray((place / "b" / "model.safetensors").read_bytes())
    damaged[-1] ^= 1
    (place / "b" / "model.safetensors").write_bytes(damaged)
    status, _, err = merge(capsys, "m1.yml", "again")
    assert (status, "E-DIGEST" in err) == (21, True)


def test_all_files_of_the_donor_go_with_the_model_or_are_named(capsys, place):
    table = [{"idx": 0, "path": ""}, {"idx": 1, "path": "1_Pooling"}]
    for name in "ab":
        (place / name / "1_Pooling").mkdir()
        (place / name / "1_Pooling" / "config.json").write_text(json.dumps({"of": name}))
        (place / name / "modules.json").write_text(json.dumps(table))
        (place / name / "training_args.bin").write_bytes(b"x")
        (place / name / "checkpoint-5").mkdir()
        (place / name / "checkpoint-5" / "model.safetensors").write_bytes(b"x")
    status, _, err = merge(capsys, "m1.yml", "out")
    assert status == 0
    expected = "checkpoint-5/ (a folder of its own), training_args.bin (state of the training)"
    assert err.count(f"files that do not go with the model: {expected}") == 1
    assert json.loads((place / "out" / "1_Pooling" / "config.json").read_text()) == {"of": "a"}
    assert manifest(place).notes == (
        "checkpoint-5/: a folder of its own",
        "training_args.bin: state of the training",
    )
    card = (place / "out" / "README.md").read_text()
    assert "- training_args.bin: state of the training" in card
    merge(capsys, "m1.yml", "bare", "--no-copy-tokenizer")
    assert (place / "bare" / "1_Pooling" / "config.json").exists()
    assert not (place / "bare" / "vocab.txt").exists()


@pytest.mark.parametrize(("donor", "named"), [("b", "base_model: b\n"), ("a", "")])
def test_one_checkpoint_gives_config_template_and_tokenizer(capsys, place, donor, named):
    (place / "m1.yml").write_text(DOCUMENT + named)
    for name in "ab":
        config = {"model_type": "test", "_name_or_path": name}
        (place / name / "config.json").write_text(json.dumps(config))
        for file in ("generation_config.json", "tokenizer_config.json"):
            (place / name / file).write_text(json.dumps({"_name_or_path": name}))
        (place / name / "chat_template.jinja").write_text(name)
    assert merge(capsys, "m1.yml", "out")[0] == 0
    for file in ("config.json", "generation_config.json", "tokenizer_config.json"):
        assert json.loads((place / "out" / file).read_text())["_name_or_path"] == donor
    assert (place / "out" / "chat_template.jinja").read_text() == donor


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


def manifest(place):
    return from_json(ModelManifest, (place / "out" / "manifest.json").read_bytes())


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
    assert 0.98 * peak <= out["peak_bytes"] <= peak
