import dataclasses
import json
import os
import uuid

import pytest

from cluster.errors import UnreachableError, UnsupportedError
from cluster.stores.memory import MemoryStore
from cluster.stores.open_store import open_store
from fusion.checkpoints.agreement import check_agree
from fusion.checkpoints.checkpoint import checkpoint_digest
from fusion.errors import MismatchError
from jobs.candidates.changes import make_pin
from jobs.candidates.find import drop_mismatched
from jobs.candidates.pin import check_pins
from jobs.candidates.shards import INDEX
from jobs.errors import (
    IncompleteError,
    NoCandidatesError,
    PickleError,
    SourceChangedError,
    UnsafeNameError,
)
from tests.support.checkpoints import (
    BERT,
    SECOND,
    SPLIT,
    archive,
    find,
    names,
    pin,
    raw_shard,
    shard_bytes,
    sharded_checkpoint,
    whole_checkpoint,
    without,
    write_files,
)


@pytest.fixture(params=["folder", "memory"])
def place(request, tmp_path):
    """Where checkpoints lie: each test runs over both stores."""
    return str(tmp_path) if request.param == "folder" else f"memory://{uuid.uuid4().hex}/runs"


def test_a_single_file_checkpoint_is_pinned_whole(place):
    uri = write_files(f"{place}/seed-1", {**whole_checkpoint(), "README.md": b"#", "run.py": b""})
    found = find(f"{place}/seed-1")
    (candidate,) = found.candidates
    assert (candidate.name, candidate.uri) == ("seed-1", uri)
    assert [file.name for file in candidate.shards] == ["model.safetensors"]
    assert [file.name for file in candidate.side_files] == ["config.json", "vocab.txt"]
    assert [tensor.name for tensor in candidate.tensors] == [
        "embeddings.weight",
        "classifier.weight",
    ]
    assert candidate.config == BERT
    assert found.vocabularies == {"seed-1": {"[PAD]": 0, "[UNK]": 1, "good": 2}}
    for file in (*candidate.shards, *candidate.side_files):
        store = open_store(uri)
        assert file.pin == make_pin(store, store.head(file.name))
    check_pins(candidate.uri, candidate.shards + candidate.side_files)


def test_a_sharded_checkpoint_is_read_by_its_index(place):
    write_files(place, sharded_checkpoint())
    candidate = pin(place)
    assert [(t.name, t.shard[6:11]) for t in candidate.tensors] == [
        ("embeddings.weight", "00001"),
        ("classifier.weight", "00002"),
    ]


def test_another_name_does_if_the_shard_is_alone(place):
    write_files(place, {"weights.safetensors": shard_bytes()})
    candidate = pin(place)
    assert candidate.shards[0].name == "weights.safetensors"
    assert (candidate.config, candidate.tokenizer_digest) == ({}, "")


def test_safetensors_beside_pickles_are_used_and_the_pickles_ignored(place):
    files = {**whole_checkpoint(), "pytorch_model.bin": archive("zip"), "optimizer.pt": b"\x80\x04"}
    write_files(f"{place}/s", files)
    (candidate,) = find(place).candidates
    assert len(candidate.shards) == 1
    assert not {file.name for file in candidate.side_files} & {"pytorch_model.bin", "optimizer.pt"}


INCOMPLETE = {
    "a missing shard": (without(SPLIT, SECOND), "1 of 2 shards missing, first model-00002"),
    "no index yet": (without(SPLIT, INDEX), f"2 .safetensors files and no {INDEX}"),
    "one of two shards": (without(SPLIT, INDEX, SECOND), "1 .safetensors files and no"),
    "no shard yet": ({"config.json": b"{}"}, "no .safetensors file"),
    "half an index": ({**SPLIT, INDEX: SPLIT[INDEX][:-9]}, f"s/{INDEX} is not JSON"),
    "an index without map": ({**SPLIT, INDEX: b"{}"}, "no weight_map"),
    "an index of numbers": ({**SPLIT, INDEX: b'{"weight_map":{"a":1}}'}, "no weight_map"),
    "an empty index": ({**SPLIT, INDEX: b'{"weight_map":{}}'}, "an empty index"),
    "an index that is a list": ({**SPLIT, INDEX: b"[]"}, "is not an object of JSON"),
    "an index with a repeated name": (
        {**SPLIT, INDEX: b'{"weight_map":{"a":"x.safetensors","a":"y.safetensors"}}'},
        "a name is given twice",
    ),
    "two stories": ({**SPLIT, **whole_checkpoint()}, "an index that does not name it"),
    "an adapter": (
        {"adapter_model.safetensors": shard_bytes(), "adapter_config.json": b"{}"},
        "is an adapter, not a whole checkpoint",
    ),
    "no tensor": ({"model.safetensors": raw_shard({})}, "holds no tensor"),
    "half a config": ({**whole_checkpoint(), "config.json": b'{"a":'}, "s/config.json is not JSON"),
    "a config that is a list": ({**whole_checkpoint(), "config.json": b"[]"}, "is not an object"),
    "a config that is too large": (
        {**whole_checkpoint(), "config.json": b'{"a":"' + b"x" * (1 << 20) + b'"}'},
        "at most 1,048,576 are read",
    ),
    "a config that is too deep": (
        {**whole_checkpoint(), "config.json": b'{"a":' * 40 + b"1" + b"}" * 40},
        "nested more than 32 deep",
    ),
    "a config that is much too deep": (
        {**whole_checkpoint(), "config.json": b"[" * 100_000}, "s/config.json is not JSON"
    ),
}  # fmt: skip


@pytest.mark.parametrize(("files", "reason"), INCOMPLETE.values(), ids=INCOMPLETE)
def test_an_incomplete_checkpoint_is_skipped_by_name_with_the_reason(place, files, reason):
    write_files(f"{place}/s", files)
    write_files(f"{place}/whole", whole_checkpoint())
    found = find(f"{place}/*")
    assert names(found) == ["whole"]
    (skipped,) = found.skipped
    assert (skipped.name, skipped.code) == ("s", "E-INCOMPLETE")
    assert reason in skipped.reason
    with pytest.raises(IncompleteError):
        pin(f"{place}/s")


def test_a_checkpoint_is_left_alone_until_it_has_settled(tmp_path):
    folder = tmp_path / "s"
    write_files(folder, whole_checkpoint())
    for file in folder.iterdir():
        os.utime(file, (1000, 1000))
    os.utime(folder / "vocab.txt", (1050, 1050))
    (skipped,) = find(tmp_path, settle_seconds=60, now=1100).skipped
    assert skipped.code == "E-INCOMPLETE"
    assert "newest object vocab.txt is 50 s old, settle is 60 s" in skipped.reason
    assert names(find(tmp_path, settle_seconds=60, now=1110)) == ["s"]
    assert names(find(tmp_path, settle_seconds=0, now=0)) == ["s"]
    (skipped,) = find(tmp_path, settle_seconds=60, now=1040).skipped
    assert "dated 10 s in the future" in skipped.reason


def test_a_pickle_in_a_young_folder_may_be_followed_by_safetensors(tmp_path):
    write_files(tmp_path / "s", {"pytorch_model.bin": archive("zip")})
    os.utime(tmp_path / "s" / "pytorch_model.bin", (1000, 1000))
    assert len(find(tmp_path, settle_seconds=60, now=1010).skipped) == 1
    with pytest.raises(PickleError):
        find(tmp_path, settle_seconds=60, now=1100)


QUANTISED = {
    "config": ({"quantization_config": {"bits": 4}}, {"w": ("F32", (2,))}),
    "float8": ({}, {"w": ("F8_E4M3", (2,))}),
    "float4": ({}, {"w": ("F4", (2,))}),
    "gptq": ({}, {"layer.qweight": ("I32", (2,)), "layer.qzeros": ("I32", (2,))}),
    "bitsandbytes": ({}, {"layer.weight.quant_state.bitsandbytes__nf4": ("U8", (2,))}),
}


@pytest.mark.parametrize(("config", "tensors"), QUANTISED.values(), ids=QUANTISED)
def test_a_quantised_checkpoint_is_refused(place, config, tensors):
    files = {"model.safetensors": shard_bytes(tensors), "config.json": json.dumps(config).encode()}
    write_files(f"{place}/s", files)
    with pytest.raises(MismatchError, match=r"^s is quantised") as caught:
        find(place)
    assert caught.value.code == "E-QUANTISED"
    assert find(place, on_refused="drop").skipped[0].code == "E-QUANTISED"


def test_an_empty_quantisation_entry_is_none(place):
    write_files(place, whole_checkpoint(config={"quantization_config": None}))
    assert pin(place).config == {"quantization_config": None}


@pytest.mark.parametrize("pattern", ["*", "seed-*", "", "nowhere/", "deep"])
def test_an_empty_glob_says_what_each_pattern_matched(tmp_path, pattern):
    write_files(tmp_path, {"notes/readme.txt": b"hello"})
    with pytest.raises(NoCandidatesError) as caught:
        find(f"{tmp_path}/{pattern}", f"{tmp_path}/gone-*")
    assert f"  {tmp_path}/{pattern}: " in str(caught.value)
    assert f"  {tmp_path}/gone-*: no checkpoint among 1 files" in str(caught.value)
    assert "Nothing was evaluated." in str(caught.value)


def test_an_empty_pattern_tells_where_a_checkpoint_would_be(place):
    write_files(f"{place}/a/b/step-9", whole_checkpoint())
    with pytest.raises(NoCandidatesError, match=r"there is a checkpoint in a/b/step-9"):
        find(place)


def test_a_candidate_found_twice_counts_once(place):
    write_files(f"{place}/seed-1", whole_checkpoint())
    write_files(f"{place}/seed-2", whole_checkpoint())
    found = find(f"{place}/seed-2", f"{place}/*", f"{place}/seed-1/", place)
    assert names(found) == ["seed-2", "seed-1"]


@pytest.mark.parametrize("scheme", ["gs", "az", "hf"])
def test_other_clouds_get_one_clear_refusal(scheme):
    with pytest.raises(UnsupportedError, match=f"^{scheme}://") as caught:
        find(f"{scheme}://bucket/seed-*")
    assert "s3://" in caught.value.hint


def test_files_of_a_checkpoint_that_vanish_meanwhile_make_it_incomplete(monkeypatch):
    """A trainer that keeps the last three deletes the others while they are listed."""
    place = f"memory://{uuid.uuid4().hex}"
    store = open_store(write_files(f"{place}/s", whole_checkpoint()))
    listed = MemoryStore.list

    def list_and_lose(self, prefix=""):
        found = [*listed(self, prefix)]
        if self.uri.endswith("/s"):
            store.delete("config.json")
        return iter(found)

    monkeypatch.setattr(MemoryStore, "list", list_and_lose)
    (skipped,) = find(place).skipped
    assert "s changed while it was being read" in skipped.reason


def test_a_store_that_does_not_answer_is_not_a_reason_to_go_on_without(monkeypatch):
    place = f"memory://{uuid.uuid4().hex}"
    write_files(f"{place}/s", whole_checkpoint())

    def fail(self, key):
        raise UnreachableError("no answer")

    monkeypatch.setattr(MemoryStore, "head", fail)
    with pytest.raises(UnreachableError):
        find(place)


def test_a_shard_that_is_a_link_out_of_its_checkpoint_is_not_opened(tmp_path):
    write_files(tmp_path / "elsewhere", whole_checkpoint())
    write_files(tmp_path / "s", without(whole_checkpoint(), "model.safetensors"))
    (tmp_path / "s" / "model.safetensors").symlink_to(tmp_path / "elsewhere" / "model.safetensors")
    with pytest.raises(UnsafeNameError, match="is a link that leaves"):
        find(tmp_path / "s")


def test_a_shard_that_is_no_file_is_missing(tmp_path):
    write_files(tmp_path / "s", without(SPLIT, SECOND))
    os.mkfifo(tmp_path / "s" / SECOND)
    (skipped,) = find(tmp_path / "s").skipped
    assert "1 of 2 shards missing" in skipped.reason


def test_reads_grow_with_shards_not_with_what_else_lies_there(monkeypatch):
    place = f"memory://{uuid.uuid4().hex}"
    for seed in range(20):
        write_files(f"{place}/seed-{seed:02d}", sharded_checkpoint())
        write_files(f"{place}/seed-{seed:02d}", {f"log/{i}.txt": b"x" for i in range(25)})
    reads = []
    read_into = MemoryStore.read_into

    def counted(self, key, buffer, /, **options):
        reads.append(key)
        read_into(self, key, buffer, **options)

    monkeypatch.setattr(MemoryStore, "read_into", counted)
    assert len(find(f"{place}/seed-*").candidates) == 20
    assert len(reads) == 20 * 2
    assert all(key.endswith(".safetensors") for key in reads)


def test_a_source_that_changed_after_planning_is_named_with_both_pins(tmp_path):
    write_files(tmp_path, whole_checkpoint())
    candidate = pin(tmp_path)
    check_pins(candidate.uri, candidate.shards + candidate.side_files)
    old = candidate.shards[0].pin
    write_files(tmp_path, {"model.safetensors": shard_bytes(fill=b"\1")})
    (tmp_path / "vocab.txt").unlink()
    with pytest.raises(SourceChangedError) as caught:
        check_pins(candidate.uri, candidate.shards + candidate.side_files)
    new = open_store(str(tmp_path)).head("model.safetensors")
    assert old.etag in str(caught.value)
    assert new.etag in str(caught.value)
    assert f"{tmp_path}/model.safetensors was " in str(caught.value)
    assert f"{tmp_path}/vocab.txt was " in str(caught.value)
    assert "and is gone now" in str(caught.value)
    assert "config.json" not in str(caught.value)


def test_a_pinned_version_that_is_kept_counts_as_unchanged():
    place = f"memory://{uuid.uuid4().hex}"
    write_files(place, whole_checkpoint())
    candidate = pin(place)
    write_files(place, {"model.safetensors": shard_bytes(fill=b"\1")})
    check_pins(candidate.uri, candidate.shards + candidate.side_files)
    shard = candidate.shards[0]
    gone = dataclasses.replace(shard, pin=dataclasses.replace(shard.pin, version="v0", etag="e0"))
    with pytest.raises(SourceChangedError, match="version v0"):
        check_pins(candidate.uri, (gone,))


def test_touching_nothing_keeps_the_digest_and_writing_changes_it(tmp_path):
    write_files(tmp_path, whole_checkpoint())
    first = checkpoint_digest(pin(tmp_path))
    assert checkpoint_digest(pin(tmp_path)) == first
    write_files(tmp_path, {"vocab.txt": b"other\n"})
    assert checkpoint_digest(pin(tmp_path)) != first


def write_four(place, odd):
    for seed in (1, 2, 3):
        write_files(f"{place}/seed-{seed}", whole_checkpoint())
    write_files(f"{place}/odd", {**whole_checkpoint(), **odd})


ODD = {
    "E-SHAPE": {"model.safetensors": shard_bytes(
        {"embeddings.weight": ("F32", (4, 4)), "classifier.weight": ("F32", (2, 4))})},
    "E-DTYPE": {"model.safetensors": shard_bytes(
        {"embeddings.weight": ("F32", (3, 4)), "classifier.weight": ("F16", (2, 4))})},
    "E-TENSORS": {"model.safetensors": shard_bytes({"embeddings.weight": ("F32", (3, 4))})},
    "E-VOCABULARY": {"vocab.txt": b"[PAD]\n[UNK]\nbad\n"},
    "E-CONFIG": {"config.json": json.dumps({**BERT, "hidden_size": 8}).encode()},
}  # fmt: skip


@pytest.mark.parametrize(("code", "odd"), ODD.items(), ids=ODD)
def test_a_candidate_unlike_the_others_is_named_or_dropped(place, code, odd):
    write_four(place, odd)
    found = find(place)
    with pytest.raises(MismatchError) as caught:
        check_agree(found.candidates, cast=False, vocabularies=found.vocabularies)
    assert caught.value.code == code
    assert "odd" in str(caught.value)
    kept = drop_mismatched(found, cast=False)
    assert names(kept) == ["seed-1", "seed-2", "seed-3"]
    assert [(skipped.name, skipped.code) for skipped in kept.skipped] == [("odd", code)]


def test_a_vocabulary_that_differs_is_shown_by_a_token_of_the_files(place):
    write_four(place, ODD["E-VOCABULARY"])
    found = find(place)
    with pytest.raises(MismatchError, match="id 2 is 'bad' in odd, 'good' in seed-1"):
        check_agree(found.candidates, cast=False, vocabularies=found.vocabularies)


def test_dropping_from_nothing_leaves_nothing(place):
    write_files(f"{place}/s", {"config.json": b"{}"})
    found = find(place)
    assert drop_mismatched(found, cast=False) == found
    assert found.candidates == ()


def test_a_pickle_called_model_is_no_side_file(place):
    write_files(
        place, {**whole_checkpoint(), "w2v.model": archive("pickle"), "sp.model": b"\n\x0e"}
    )
    assert [file.name for file in pin(place).side_files] == ["config.json", "sp.model", "vocab.txt"]
