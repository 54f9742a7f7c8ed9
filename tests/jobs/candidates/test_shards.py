import json
import uuid

import pytest

from cluster.stores.memory import MemoryStore
from fusion.checkpoints.checkpoint import Pin, PinnedFile
from fusion.errors import HeaderError, TruncatedError
from jobs.candidates.shards import INDEX, SPECULATIVE_BYTES, read_header
from jobs.errors import PickleError, UnsafeNameError
from tests.support.checkpoints import (
    SECOND,
    SPLIT,
    archive,
    find,
    names,
    pin,
    raw_shard,
    shard_bytes,
    whole_checkpoint,
    write_files,
)


@pytest.fixture(params=["folder", "memory"])
def place(request, tmp_path):
    """Where checkpoints lie: each test runs over both stores."""
    return str(tmp_path) if request.param == "folder" else f"memory://{uuid.uuid4().hex}/runs"


@pytest.mark.parametrize("kind", ["zip", "tar", "pickle"])
@pytest.mark.parametrize("file", ["pytorch_model.bin", "weights", "model.safetensors"])
def test_a_pickle_is_known_by_its_content(place, kind, file):
    write_files(f"{place}/s", {file: archive(kind) + b"\0" * 600, "config.json": b"{}"})
    with pytest.raises(PickleError, match=f"^s: {file}") as caught:
        find(f"{place}/s")
    assert "safe_serialization=True" in caught.value.hint
    (skipped,) = find(f"{place}/s", on_refused="drop").skipped
    assert (skipped.name, skipped.code) == ("s", "E-PICKLE")


def test_a_pickle_alone_in_a_named_folder_is_refused_whatever_it_is_called(place):
    write_files(f"{place}/s", {"weights": archive("pickle")})
    with pytest.raises(PickleError, match="weights"):
        find(f"{place}/s")


def test_a_header_of_640_bytes_is_not_taken_for_a_pickle(place):
    table = {"__metadata__": {"pad": "x" * 613}}
    table["a"] = {"dtype": "U8", "shape": [1], "data_offsets": [0, 1]}
    text = json.dumps(table).encode().ljust(640 + 256)
    content = raw_shard(text, b"\0")
    assert content.startswith(b"\x80")
    write_files(place, {"model.safetensors": content})
    assert len(pin(place).tensors) == 1
    write_files(place, {"model.safetensors": content + b"\0"})
    with pytest.raises(HeaderError, match="after the last tensor"):
        pin(place)


ENTRY = {"dtype": "U8", "shape": [2], "data_offsets": [0, 2]}


ONE = b'"a":{"dtype":"U8","shape":[2],"data_offsets":[0,2]}'


HOSTILE = {
    "duplicate name": raw_shard(b"{" + ONE + b"," + ONE + b"}", b"\0\0"),
    "overlap": raw_shard({"a": ENTRY, "b": {**ENTRY, "data_offsets": [1, 3]}}, b"\0" * 3),
    "hole": raw_shard({"a": ENTRY, "b": {**ENTRY, "data_offsets": [3, 5]}}, b"\0" * 5),
    "absurd shape": raw_shard({"a": {**ENTRY, "shape": [1 << 62, 1 << 62]}}, b"\0\0"),
    "wrong size": raw_shard({"a": {**ENTRY, "shape": [3]}}, b"\0\0"),
    "not UTF-8": raw_shard(b"{" + ONE.replace(b"a", b"\xff", 1) + b"}", b"\0\0"),
    "oversized": (1 << 40).to_bytes(8, "little") + b"{" * 100,
}


@pytest.mark.parametrize("content", HOSTILE.values(), ids=HOSTILE)
def test_a_hostile_header_stops_the_run_or_is_dropped(place, content):
    write_files(f"{place}/good", whole_checkpoint())
    write_files(f"{place}/bad", {**whole_checkpoint(), "model.safetensors": content})
    with pytest.raises(HeaderError, match=r"^bad/model\.safetensors") as caught:
        find(place)
    assert "select.on_refused: drop" in caught.value.hint
    found = find(place, on_refused="drop")
    assert names(found) == ["good"]
    assert [(skipped.name, skipped.code) for skipped in found.skipped] == [("bad", "E-HEADER")]


def test_all_refusals_are_told_at_once(place):
    write_files(f"{place}/a", {**whole_checkpoint(), "model.safetensors": HOSTILE["hole"]})
    write_files(f"{place}/b", {"pytorch_model.bin": archive("zip")})
    with pytest.raises(HeaderError, match="2 candidates are refused") as caught:
        find(place)
    assert "E-HEADER  a/model.safetensors" in str(caught.value)
    assert "E-PICKLE  b: pytorch_model.bin" in str(caught.value)
    assert caught.value.args[0] == str(caught.value)


UNSAFE = [
    "../seed-2/model.safetensors", "/etc/model.safetensors", "..\\model.safetensors",
    "%2e%2e%2fmodel.safetensors", "a\0.safetensors", "C:model.safetensors", "sub/x.safetensors",
    "", ".safetensors", "x.bin", "x.safetensors\n", "é.safetensors", "a" * 256 + ".safetensors",
    "s3://other/x.safetensors",
]  # fmt: skip


@pytest.mark.parametrize("shard", UNSAFE, ids=repr)
def test_an_index_cannot_name_a_shard_outside_of_its_checkpoint(place, shard):
    index = {"weight_map": {"embeddings.weight": shard}}
    files = {**whole_checkpoint(), INDEX: json.dumps(index).encode()}
    write_files(f"{place}/seed-2", whole_checkpoint())
    write_files(f"{place}/seed-1", files)
    with pytest.raises(UnsafeNameError, match="nothing was opened"):
        find(f"{place}/seed-1")
    (skipped,) = find(f"{place}/seed-1", on_refused="drop").skipped
    assert skipped.code == "E-UNSAFE-NAME"


def test_a_lone_shard_with_an_unsafe_name_is_refused(place):
    write_files(place, {"a\x1b[2J.safetensors": shard_bytes()})
    with pytest.raises(UnsafeNameError) as caught:
        pin(place)
    assert "\x1b" not in str(caught.value)


@pytest.mark.parametrize("size", [0, 5, 40, -1])
def test_a_file_that_was_cut_off_is_skipped_by_name(place, size):
    content = shard_bytes()[:size]
    write_files(f"{place}/s", {**whole_checkpoint(), "model.safetensors": content})
    (skipped,) = find(place).skipped
    assert (skipped.name, skipped.code) == ("s", "E-TRUNCATED")
    assert f"{len(content)}" in skipped.reason
    with pytest.raises(TruncatedError, match=r"^s/model\.safetensors"):
        pin(f"{place}/s")


def test_an_index_must_say_where_each_tensor_is(place):
    table = json.loads(SPLIT[INDEX])
    for change in ({"embeddings.weight": SECOND}, {"ghost": SECOND}):
        index = {"weight_map": {**table["weight_map"], **change}}
        write_files(place, {**SPLIT, INDEX: json.dumps(index).encode()})
        with pytest.raises(HeaderError, match=r"of \d tensors are not where the index says"):
            pin(place)


def test_a_tensor_that_the_index_leaves_out_is_refused(place):
    extra = shard_bytes({"classifier.weight": ("F32", (2, 4)), "smuggled": ("F32", (1,))})
    write_files(place, {**SPLIT, SECOND: extra})
    with pytest.raises(HeaderError, match="'smuggled' is in model-00002"):
        pin(place)


def test_one_tensor_in_two_shards_is_refused(place):
    first = "model-00001-of-00002.safetensors"
    write_files(place, {**SPLIT, SECOND: SPLIT[first]})
    with pytest.raises(HeaderError, match=r"'embeddings\.weight' is in model-00001"):
        pin(place)


class CountingStore(MemoryStore):
    """A memory store that keeps (key, start, bytes) of every ranged read."""

    def __init__(self, uri):
        super().__init__(uri)
        self.reads = []

    def read_into(self, key, buffer, /, *, start, if_match=None, version=None):
        assert if_match is not None
        assert version is not None
        self.reads.append((key, start, len(buffer)))
        super().read_into(key, buffer, start=start, if_match=if_match, version=version)


@pytest.mark.parametrize(("num_tensors", "num_reads"), [(1, 1), (5000, 2)])
def test_a_header_takes_at_most_two_pinned_reads_and_no_tensor_byte(num_tensors, num_reads):
    store = CountingStore(f"memory://{uuid.uuid4().hex}")
    tensors = {f"layer.{i:05d}.weight": ("F32", (64,)) for i in range(num_tensors)}
    content = shard_bytes(tensors)
    header_bytes = 8 + int.from_bytes(content[:8], "little")
    assert (header_bytes > SPECULATIVE_BYTES) == (num_reads == 2)
    entry = store.put("x.safetensors", content)
    pinned = PinnedFile(entry.key, Pin(entry.size, entry.etag, entry.version))
    specs = read_header(store, pinned, name="s")
    assert [spec.name for spec in specs] == list(tensors)
    assert len(store.reads) == num_reads
    assert sum(size for _, _, size in store.reads) == max(
        header_bytes, min(len(content), SPECULATIVE_BYTES)
    )
