"""A merge from S3 to S3 through a proxy that breaks things: right bytes or a typed error."""

import contextlib
import hashlib
import random
import time
import uuid
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import pytest
import torch

from cluster.digests import crc64nvme
from cluster.errors import AccessError, ClusterError, DigestError
from cluster.stores.open_store import open_store
from cluster.workers.hands import Hands
from cluster.workers.patience import Patience
from cluster.workers.threads import ThreadRunner
from fusion.canonical import to_json
from fusion.checkpoints.agreement import check_agree
from fusion.errors import FusionError
from fusion.manifests.model import FileEntry, ModelManifest
from fusion.plans.layout import plan_merge
from fusion.plans.requests import model_request
from fusion.plans.wish import MergeWish
from jobs.candidates.pin import pin_checkpoint
from jobs.errors import JobError, MemoryNeedError
from jobs.merge.fuse import Manner, Target, fuse
from jobs.merge.memory import SMALLEST_CHUNK_BYTES, fit_worker
from tests.support.merging import merge, random_tensors, write_checkpoint
from tests.support.waiting import LONG

pytestmark = [pytest.mark.s3, pytest.mark.xdist_group("seaweedfs")]

PART = 5 << 20  # the smallest that S3 takes
SHAPES = {"model.weight": (1_600_000,), "head.weight": (2, 500_000)}  # two parts
# Between two bytes: more than this server needs while the machine is busy.
READ_SECONDS = 3.0
STALL = {"wait": READ_SECONDS + 0.3}
TYPED = (ClusterError, JobError, FusionError)
SETTINGS = {
    "METAFUSE_S3_RETRIES": "2",
    "METAFUSE_S3_READ_SECONDS": str(READ_SECONDS),
    "METAFUSE_S3_CONNECT_SECONDS": "30",
}
SOURCE = r"/sources-[^?]*/model\.safetensors"
OUT = r"/out-[^?]*/model\.safetensors"

# What goes wrong: kind of fault, and where.
FAULTS = {
    "500": ("error", {}),
    "503": ("slowdown", {}),
    "200 with an error inside": ("embedded", {"method": "POST"}),
    "slow bytes": ("slow", {}),
    "stalled answer": ("stall", STALL),
    "stalled body": ("hang", STALL),
    "reset": ("reset", {}),
    "truncated body": ("truncate", {}),
    "wrong length": ("short", {"method": "GET"}),
    "wrong range": ("shifted", {"method": "GET"}),
    "flipped bit down": ("corrupt", {"method": "GET"}),
    "flipped bit up": ("corrupt", {"method": "PUT"}),
    "lost answer": ("lost", {}),
    "412": ("precondition", {"after": 20}),
    "409": ("conflict", {"after": 20}),
    "expired half-way": ("expired", {"after": 40}),
}
RATES = (0.01, 0.1, 0.5)
MATRIX = [(name, rate) for name in FAULTS for rate in RATES]
# Every run of the tests takes the same few; `make test-all` takes all.
SAMPLE = random.Random(4).sample(MATRIX, 5)


@dataclass(frozen=True)
class World:
    """A server, a proxy in front of it, sources on it, and what their average is."""

    proxy: object
    sources: str
    right: dict


@pytest.fixture(scope="module")
def _world(seaweedfs, faulty, tmp_path_factory):
    folder = tmp_path_factory.mktemp("faults")
    for index in range(2):
        write_checkpoint(folder / f"m{index}", random_tensors(index, torch.float32, SHAPES))
        (folder / f"m{index}" / "vocab.txt").write_text("[PAD]\n[UNK]\ngood\n")
    fuse_pinned(str(folder), str(folder / "out"))
    sources = f"s3://plain/sources-{uuid.uuid4().hex[:8]}"
    with pytest.MonkeyPatch.context() as patch:
        for name, value in seaweedfs.items():
            patch.setenv(name, value)
        for index in range(2):
            upload_checkpoint(folder / f"m{index}", f"{sources}/m{index}")
    return World(faulty, sources, digests(open_store(str(folder / "out"))))


@pytest.fixture
def world(_world, seaweedfs, use):
    """The world, entered through its proxy."""
    _world.proxy.clear()
    use({**seaweedfs, **SETTINGS, "AWS_ENDPOINT_URL_S3": _world.proxy.url})
    yield _world
    _world.proxy.clear()


def upload_checkpoint(folder, uri):
    """As metafuse writes it: shards by our own upload, so that the store knows their CRC."""
    store = open_store(uri)
    for path in sorted(folder.iterdir()):
        content = path.read_bytes()
        if path.suffix != ".safetensors":
            store.put(path.name, content)
            continue
        upload = store.start_upload(path.name, size=len(content), metadata={})
        parts = []
        for number, first in enumerate(range(0, len(content), PART), start=1):
            piece = memoryview(content)[first : first + PART]
            writer = upload.start_part(number, offset=first, size=len(piece), with_sha256=False)
            writer.append(piece)
            parts.append(writer.finish())
        assert upload.complete(parts).crc64nvme


def fuse_pinned(sources, out):
    """Pin, compare, plan, merge and commit: all requests that a model takes."""
    pinned = [pin_checkpoint(f"{sources}/m{i}", name=f"m{i}") for i in range(2)]
    checkpoints = [checkpoint for checkpoint, _ in pinned]
    vocabularies = {checkpoint.name: words for checkpoint, words in pinned}
    check_agree(checkpoints, cast=False, vocabularies=vocabularies)
    plan = plan_merge(model_request(checkpoints, [0.25, 0.75], MergeWish()), unit_bytes=PART)
    return fuse(
        plan,
        Target(open_store(out), "model", "ledger", "fused", "fused"),
        hands=Hands(ThreadRunner(), 2),
        manner=Manner(least_memory(plan, out), threads=2, patience=Patience(outage_pause=0.05)),
    )


def least_memory(plan, out):
    """So little that chunks are the smallest there are, and requests many."""
    for mebibytes in range(256, 1024, 4):
        with contextlib.suppress(MemoryNeedError):
            memory = fit_worker(plan, out, mebibytes << 20, threads=2)
            assert memory.chunk_bytes == SMALLEST_CHUNK_BYTES
            return mebibytes << 20
    raise AssertionError("no memory is enough")


def digests(store):
    """sha256 of what a reader of the model gets, {} where no manifest makes it one."""
    names = [entry.key.removeprefix("model/") for entry in store.list("model/")]
    if "manifest.json" not in names:
        return {}
    texts = ("manifest.json", "README.md")  # these name the sources' URIs
    return {
        name: hashlib.sha256(store.read(f"model/{name}")).hexdigest()
        for name in names
        if name not in texts
    }


def attempt(world, out):
    """The code of the error that ended it, "" where none did; anything untyped is raised."""
    with ThreadPoolExecutor(1) as pool:
        try:
            pool.submit(fuse_pinned, world.sources, out).result(timeout=LONG)
        except TYPED as error:
            return error.code
    return ""


def check_outcome(world, out):
    """Try through the faults, look at what there is, then try without; returns what happened."""
    started = time.monotonic()
    code = attempt(world, out)
    seconds = time.monotonic() - started
    num_faults = len(world.proxy.log)
    num_requests = len(world.proxy.requests)
    world.proxy.clear()
    found = digests(open_store(out))
    assert found in ({}, world.right) if code else found == world.right
    assert attempt(world, out) == ""
    assert digests(open_store(out)) == world.right
    return (
        f"{code or 'right bytes':18} {num_faults:3} of {num_requests:3} requests {seconds:5.1f} s"
    )


def new_output():
    return f"s3://plain/out-{uuid.uuid4().hex[:8]}"


def run_case(world, request, capsys, name, rate):
    kind, how = FAULTS[name]
    world.proxy.clear(seed=int(rate * 100))
    world.proxy.add(kind, p=rate, **how)
    told = check_outcome(world, new_output())
    with capsys.disabled():
        request.config.get_terminal_writer().line(f"  {name:26} {rate:4.0%}  {told}")


@pytest.mark.parametrize(("name", "rate"), SAMPLE)
def test_a_fault_ends_in_the_right_bytes_or_a_typed_error(world, request, capsys, name, rate):
    run_case(world, request, capsys, name, rate)


@pytest.mark.slow
@pytest.mark.parametrize(("name", "rate"), [case for case in MATRIX if case not in SAMPLE])
def test_every_fault_at_every_rate_does(world, request, capsys, name, rate):
    run_case(world, request, capsys, name, rate)


def once(world, kind, **how):
    """One fault, at a chosen request."""
    world.proxy.add(kind, times=1, **how)
    out = new_output()
    code = attempt(world, out)
    assert len(world.proxy.log) == 1
    found = digests(open_store(out))
    assert found == ({} if code else world.right)
    return code


ONCE = {
    "a part's answer lost": ("lost", {"method": "PUT", "path": OUT + r"\?.*partNumber"}, ""),
    "the answer of complete lost": ("lost", {"method": "POST", "path": OUT + r"\?uploadId"}, ""),
    "complete fails inside 200": ("embedded", {"method": "POST", "path": OUT + r"\?uploadId"}, ""),
    "the manifest's answer lost": ("lost", {"method": "PUT", "path": "/model/manifest"}, ""),
    "a side file's answer lost": ("lost", {"method": "PUT", "path": "/model/config"}, ""),
    "a record's answer lost": ("lost", {"method": "PUT", "path": "/ledger/.*json"}, ""),
    "the upload's note lost": ("lost", {"method": "PUT", "path": "/ledger/.*upload"}, ""),
    "the start of the upload lost": ("lost", {"method": "POST", "path": OUT + r"\?uploads"}, ""),
    "409 to the manifest": ("conflict", {"method": "PUT", "path": "/model/manifest"}, ""),
    "409 to the upload's note": ("conflict", {"method": "PUT", "path": "/ledger/.*upload"}, ""),
    "a bit of a part flipped": ("corrupt", {"method": "PUT", "path": OUT}, ""),
    "a bit of a record flipped": ("corrupt", {"method": "PUT", "path": "/ledger/.*json"}, ""),
    "a bit of the manifest flipped": ("corrupt", {"method": "PUT", "path": "/model/manif"}, ""),
    "a bit of a config flipped": ("corrupt", {"method": "GET", "path": "m0/config.json"}, ""),
    "a bit of tensors flipped": (
        "corrupt", {"method": "GET", "path": SOURCE, "after": 6}, "E-DIGEST",
    ),
    "412 to a read of tensors": (
        "precondition", {"method": "GET", "path": SOURCE, "after": 6}, "E-SOURCE-CHANGED",
    ),
    "a body of tensors cut": ("truncate", {"method": "GET", "path": SOURCE, "after": 6}, ""),
    "a body of tensors reset": ("reset", {"method": "GET", "path": SOURCE, "after": 6}, ""),
    "a list that breaks off": ("reset", {"method": "GET", "path": "list-type"}, ""),
    "the upload's id that breaks off": (
        "reset", {"method": "POST", "path": OUT + r"\?uploads"}, "",
    ),
    "a range that was not asked for": (
        "shifted", {"method": "GET", "path": SOURCE, "after": 6}, "E-UNREACHABLE",
    ),
    "a body of tensors stalled": (
        "hang", {"method": "GET", "path": SOURCE, "after": 6, **STALL}, "",
    ),
}  # fmt: skip


LEFT_TO_ALL = {
    "complete fails inside 200", "a side file's answer lost", "a record's answer lost",
    "the start of the upload lost", "a bit of a record flipped", "a bit of the manifest flipped",
    "a body of tensors reset", "a body of tensors stalled", "the upload's id that breaks off",
}  # fmt: skip
CASES = [
    pytest.param(case, marks=[pytest.mark.slow] if case in LEFT_TO_ALL else []) for case in ONCE
]


@pytest.mark.parametrize("case", CASES)
def test_one_fault_at_the_worst_place(world, case):
    kind, how, code = ONCE[case]
    assert once(world, kind, **how) == code


@pytest.mark.long
def test_a_store_that_is_away_for_longer_than_a_request_waits_is_waited_for(world):
    world.proxy.add("lost", times=10, method="PUT", path=OUT)
    assert attempt(world, out := new_output()) == ""
    assert len(world.proxy.log) == 10
    assert digests(open_store(out)) == world.right


def test_no_flipped_part_is_ever_stored(world):
    """Every part is damaged until the tries are used up: refused by the server, and told."""
    world.proxy.add("corrupt", method="PUT", path=OUT)
    out = new_output()
    with pytest.raises(DigestError, match="arrived other than they were sent"):
        fuse_pinned(world.sources, out)
    assert world.proxy.log
    assert digests(open_store(out)) == {}


@pytest.mark.parametrize("kind", ["reset", "truncate", "hang"])
def test_lists_that_always_break_off_end_in_a_typed_error(world, kind, monkeypatch):
    """Once the tries are used up the error is that of the library below botocore."""
    monkeypatch.setenv("METAFUSE_S3_READ_SECONDS", "1")
    world.proxy.add(kind, method="GET", path="list-type", wait=1.3)
    assert attempt(world, new_output()) == "E-UNREACHABLE"
    assert len(world.proxy.log) == 3


def test_credentials_that_expire_half_way_are_told_and_new_ones_go_on(world):
    out = new_output()
    world.proxy.add("expired", method="PUT", path=OUT, after=1)
    with pytest.raises(AccessError, match="ExpiredToken") as caught:
        fuse_pinned(world.sources, out)
    assert "credentials" in caught.value.hint
    assert digests(open_store(out)) == {}
    world.proxy.clear()
    fuse_pinned(world.sources, out)
    assert digests(open_store(out)) == world.right
    sent = [path for method, path in world.proxy.requests if method == "PUT" and "partNumb" in path]
    assert len(sent) == 1  # the first part was kept


@pytest.mark.long
def test_what_a_driver_read_damaged_before_it_died_is_computed_anew(world):
    """The damage is in the records of a run that ended for another reason."""
    out = new_output()
    world.proxy.add("corrupt", method="GET", path=SOURCE, after=6, times=1)
    world.proxy.add("error", method="POST", path=OUT + r"\?uploadId")
    world.proxy.add("error", method="PUT", path=OUT, after=1)
    with pytest.raises(ClusterError):
        fuse_pinned(world.sources, out)
    world.proxy.clear()
    fuse_pinned(world.sources, out)
    assert digests(open_store(out)) == world.right


def put_unknown(world, folder, *, with_manifest):
    """A copy of the sources of which the store knows no CRC, a manifest beside them or not."""
    there, here = open_store(world.sources), open_store(f"s3://plain/{folder}")
    for index in range(2):
        content = there.read(f"m{index}/model.safetensors")
        key = f"m{index}/model.safetensors"
        here.client.put_object(**here.address(key), Body=content)
        assert here.head(key).crc64nvme == ""
        if with_manifest:
            name = "model.safetensors"
            entry = FileEntry(name, len(content), "", crc64nvme=crc64nvme(content))
            manifest = ModelManifest(plan="p", method="linear", files=(entry,), sources=())
            here.put(f"m{index}/manifest.json", to_json(manifest))
    return here.uri


def merge_flipped(world, sources, out, *, is_flipped):
    """Merge once, a bit of a source's tensors flipped on the way or not."""
    world.proxy.clear()
    pinned = [pin_checkpoint(f"{sources}/m{i}", name=f"m{i}")[0] for i in range(2)]
    if is_flipped:
        world.proxy.add("corrupt", method="GET", path=r"/m1/model\.saf", after=2, times=1)
    _, outcome = merge(pinned, [0.25, 0.75], out, unit_bytes=PART)
    assert len(world.proxy.log) == is_flipped
    return outcome


def test_a_digest_that_only_the_sources_manifest_has_finds_a_flipped_bit(world):
    sources = put_unknown(world, f"told-{uuid.uuid4().hex[:8]}", with_manifest=True)
    with pytest.raises(DigestError, match="bytes changed on the way"):
        merge_flipped(world, sources, new_output(), is_flipped=True)
    outcome = merge_flipped(world, sources, new_output(), is_flipped=False)
    assert (outcome.num_checked, outcome.num_unchecked) == (2, 0)


def test_where_nobody_knows_a_digest_the_outcome_says_that_nothing_was_compared(world):
    sources = put_unknown(world, f"untold-{uuid.uuid4().hex[:8]}", with_manifest=False)
    outcome = merge_flipped(world, sources, new_output(), is_flipped=True)
    assert (outcome.num_checked, outcome.num_unchecked) == (0, 2)
