"""A merge of objects that other tools have put on S3, with the checksums that these leave there."""

import json
import uuid

import pytest
import torch

from cluster.errors import DigestError
from cluster.stores.open_store import open_store
from fusion.plans.layout import plan_merge
from fusion.plans.requests import model_request
from fusion.plans.wish import MergeWish
from jobs.candidates.pin import pin_checkpoint
from jobs.merge.source_digests import find_digests
from tests.support.calling import call
from tests.support.merging import merge, random_tensors, write_checkpoint
from tests.support.stored_objects import put_parts, put_whole

pytestmark = [pytest.mark.s3, pytest.mark.xdist_group("seaweedfs")]

PART = 5 << 20  # the smallest that S3 takes
UNIT = 6 << 20
SHAPES = {"model.weight": (3_900_000,), "head.weight": (2, 500_000)}  # 19.6 MB
# All parts but the last. They end inside of elements, tensors, chunks and units.
EQUAL = (PART + 3, PART + 3, PART + 3)
GROWING = (PART, PART + 50, PART + 101)
# First, last and number are those of equal parts.
DECEIVING = (PART + 400, PART + 800, PART)


@pytest.fixture
def server(faulty, seaweedfs, use):
    """SeaweedFS behind a proxy that can flip bits."""
    faulty.clear()
    use({**seaweedfs, "AWS_ENDPOINT_URL_S3": faulty.url, "METAFUSE_S3_RETRIES": "2"})
    yield faulty
    faulty.clear()


def put_sources(folder, write):
    """Two checkpoints; `write(store, key, content)` puts their shards."""
    store = open_store(f"s3://plain/by-others-{uuid.uuid4().hex[:8]}")
    for index in range(2):
        path = write_checkpoint(folder / f"m{index}", random_tensors(index, torch.float32, SHAPES))
        store.put(f"m{index}/config.json", (path / "config.json").read_bytes())
        write(store, f"m{index}/model.safetensors", (path / "model.safetensors").read_bytes())
    return store.uri


def in_parts(algorithm, kind, sizes):
    def write(store, key, content):
        ends = [sum(sizes[: n + 1]) for n in range(len(sizes))]
        pieces = [content[end - size : end] for size, end in zip(sizes, ends, strict=True)]
        put_parts(store, key, [*pieces, content[ends[-1] :]], algorithm, kind)

    return write


def in_one(algorithm):
    return lambda store, key, content: put_whole(store, key, content, algorithm)


def pin(sources):
    return [pin_checkpoint(f"{sources}/m{i}", name=f"m{i}")[0] for i in range(2)]


def merge_once(server, sources, *, is_flipped):
    """Merge, a bit of a source's tensors flipped on its way or not.

    How many shards `plan` said to carry a digest, and how many were compared.
    """
    server.clear()
    pinned = pin(sources)
    known = find_digests(plan_merge(model_request(pinned, [0.25, 0.75], MergeWish())))
    if is_flipped:
        server.add("corrupt", method="GET", path=r"/m1/model\.saf", after=2, times=1)
    out = f"s3://plain/out-{uuid.uuid4().hex[:8]}"
    _, outcome = merge(pinned, [0.25, 0.75], out, unit_bytes=UNIT, chunk_bytes=1_000_003)
    assert len(server.log) == is_flipped
    return len(known), outcome.num_checked


@pytest.mark.parametrize(
    ("write", "name"),
    [
        (in_parts("CRC32", "COMPOSITE", EQUAL), "CRC32 of 4 parts"),
        (in_parts("CRC32C", "COMPOSITE", GROWING), "CRC32C of 4 parts"),
        (in_parts("CRC32", "FULL_OBJECT", EQUAL), "CRC32"),
        (in_one("CRC32C"), "CRC32C"),
    ],
    ids=["equal parts", "growing parts", "object in parts", "object in one piece"],
)
def test_the_crc_that_another_tool_has_left_finds_a_flipped_bit(server, tmp_path, write, name):
    sources = put_sources(tmp_path, write)
    with pytest.raises(DigestError, match=f"arrived with {name} .* bytes changed on the way"):
        merge_once(server, sources, is_flipped=True)
    assert merge_once(server, sources, is_flipped=False) == (2, 2)


def test_digests_that_ranges_do_not_make_leave_a_source_unchecked(server, tmp_path):
    sources = put_sources(tmp_path, in_parts("SHA256", "COMPOSITE", EQUAL))
    assert merge_once(server, sources, is_flipped=True) == (0, 0)


def test_parts_of_other_sizes_than_they_seem_accuse_nobody(server, tmp_path):
    sources = put_sources(tmp_path, in_parts("CRC32", "COMPOSITE", DECEIVING))
    assert merge_once(server, sources, is_flipped=False) == (2, 0)


def test_the_command_counts_such_sources_as_checked(server, tmp_path, monkeypatch, capsys):
    sources = put_sources(tmp_path, in_parts("CRC32", "COMPOSITE", EQUAL))
    monkeypatch.chdir(tmp_path)
    models = "".join(
        f"  - {{model: {sources}/m{i}, parameters: {{weight: 0.5}}}}\n" for i in range(2)
    )
    (tmp_path / "m.yml").write_text(f"models:\n{models}merge_method: linear\n")
    status, out, _ = call(capsys, "merge", "m.yml", "out", "--json")
    assert (status, json.loads(out)["num_checked"], json.loads(out)["num_sources"]) == (0, 2, 2)
