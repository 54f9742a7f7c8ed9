"""A merge taken up again: by others, after damage, beside another driver."""

import hashlib
import socket
import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import pytest

from cluster.digests import crc64nvme
from cluster.errors import AccessError, DigestError, RunnerError
from cluster.stores.memory import MemoryStore
from cluster.stores.open_store import open_store
from cluster.workers.hands import Hands
from cluster.workers.runner import SerialRunner
from cluster.workers.threads import ThreadRunner
from fusion.canonical import from_json, to_json
from fusion.manifests.model import FileEntry, ModelManifest
from fusion.methods.probe import digest_arithmetic
from fusion.plans.layout import plan_merge
from fusion.plans.requests import model_request
from fusion.plans.wish import MergeWish
from jobs.merge.driver import merge_all
from jobs.merge.job import MergeJob
from jobs.merge.ledger import UnitRecord
from jobs.merge.memory import fit_worker
from tests.support.merging import write_sources
from tests.support.publishing import publish, read_promoted
from tests.support.stopping import Stopped, Stopper, stoppable
from tests.support.waiting import LONG

SHAPES = {"a.weight": (33, 17), "b.scalar": (), "d.big": (701, 13), "e.big": (401, 13)}


@pytest.fixture
def sources(tmp_path):
    return write_sources(tmp_path / "sources", 2, shapes=SHAPES)


@pytest.fixture(params=["memory", "local"])
def output(request, quick_folder):
    if request.param == "local":
        return str(quick_folder / "out")
    return f"memory://{request.node.name}"


def make_job(sources, output, *, weights=(0.25, 0.75), shard_bytes=40_000):
    request = model_request(sources, list(weights), MergeWish())
    plan = plan_merge(request, unit_bytes=3001, shard_bytes=shard_bytes)
    return MergeJob(plan, output, "model", "ledger", fit_worker(plan, output, 1 << 30))


def whole(job):
    """What the merge gives without any trouble."""
    elsewhere = MergeJob(job.plan, "memory://undisturbed", "model", "ledger", job.memory)
    merge_all(elsewhere, Hands(SerialRunner(), 1))
    return read_shards(elsewhere)


def read_shards(job):
    store = open_store(job.output)
    return {
        shard.name: hashlib.sha256(store.read(f"{job.model}/{shard.name}")).hexdigest()
        for shard in job.plan.shards
    }


def stop(job, operation, *, workers=1):
    """A driver that ends at an operation; returns what it did."""
    with stoppable(Stopper(operation)) as stopper, pytest.raises(Stopped):
        merge_all(job, Hands(ThreadRunner(), workers))
    return [verb for verb, _ in stopper.seen]


def records(job):
    return [e.key for e in open_store(job.output).list(f"{job.ledger}/") if "json" in e.key]


@pytest.mark.parametrize("workers", [1, 2, 4])
@pytest.mark.parametrize("operation", [80, 100, 130])
def test_other_workers_go_on_and_repeat_no_more_than_what_was_in_flight(
    sources, output, workers, operation
):
    job = make_job(sources, output)
    begun = stop(job, operation, workers=workers).count("start_part")
    done = len(records(job))
    outcome = merge_all(job, Hands(ThreadRunner(), 5 - workers))
    assert outcome.num_resumed == done >= begun - workers > 0
    assert read_shards(job) == whole(job)


@pytest.mark.parametrize(
    "content", [b"", b"{", b"[]", b'{"unit":"00001-00001"}', b"\xff\xfe", b"null"]
)
def test_a_record_that_is_empty_or_broken_counts_as_not_done(sources, output, content):
    job = make_job(sources, output)
    stop(job, 110)
    done = records(job)
    open_store(output).put(done[1], content)
    outcome = merge_all(job, Hands(SerialRunner(), 1))
    assert outcome.num_resumed == len(done) - 1
    assert read_shards(job) == whole(job)


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b'{"upload":7}'])
def test_a_broken_record_of_an_upload_begins_another(sources, output, content):
    job = make_job(sources, output)
    stop(job, 110)
    open_store(output).put("ledger/00001.upload", content)
    outcome = merge_all(job, Hands(SerialRunner(), 1))
    assert outcome.num_resumed < outcome.num_units
    assert read_shards(job) == whole(job)
    assert list(open_store(output).list_uploads()) == []


def test_a_record_that_describes_another_unit_is_not_believed(sources, output):
    job = make_job(sources, output)
    stop(job, 110)
    store, done = open_store(output), records(job)
    store.put(done[1], store.read(done[1]).replace(b'"offset":3001', b'"offset":3002'))
    outcome = merge_all(job, Hands(SerialRunner(), 1))
    assert outcome.num_resumed == len(done) - 1
    assert read_shards(job) == whole(job)


def test_a_part_whose_bytes_were_damaged_on_disk_is_written_again(sources, quick_folder):
    job = make_job(sources, str(quick_folder / "out"))
    stop(job, 110)
    done = len(records(job))
    (path,) = (quick_folder / "out/model").glob(".metafuse-*00001-of*.part")
    flip(path, 4000)
    outcome = merge_all(job, Hands(SerialRunner(), 1))
    assert outcome.num_resumed == done - 1
    assert read_shards(job) == whole(job)


def test_a_part_that_is_gone_is_written_again(sources):
    job = make_job(sources, "memory://part-gone")
    stop(job, 110)
    done = len(records(job))
    uploads = MemoryStore("memory://part-gone").room.uploads.values()
    next(upload for upload in uploads if upload.parts).parts.pop(2)
    outcome = merge_all(job, Hands(SerialRunner(), 1))
    assert outcome.num_resumed == done - 1
    assert read_shards(job) == whole(job)


def test_an_upload_that_is_gone_gets_a_successor(sources, output):
    job = make_job(sources, output)
    stop(job, 110)
    store = open_store(output)
    for left in list(store.list_uploads()):
        store.resume_upload(left.key, left.id, size=0).abort()
    outcome = merge_all(job, Hands(SerialRunner(), 1))
    assert outcome.num_resumed == 0
    assert read_shards(job) == whole(job)


def flip(path: Path, position: int) -> None:
    content = bytearray(path.read_bytes())
    content[position] ^= 1
    with path.open("r+b") as stream:
        stream.write(content)


def units_of(job, shard):
    return sum(unit.shard == shard for unit in job.plan.units)


def test_a_completed_shard_that_was_damaged_on_disk_is_written_again(sources, quick_folder):
    job = make_job(sources, str(quick_folder / "out"))
    merge_all(job, Hands(SerialRunner(), 1))
    flip(quick_folder / "out/model" / job.plan.shards[0].name, 5000)
    outcome = merge_all(job, Hands(SerialRunner(), 1))
    assert outcome.num_units - outcome.num_resumed == units_of(job, 0)
    assert read_shards(job) == whole(job)


@pytest.mark.parametrize("content", [None, b"short"], ids=["gone", "another object"])
def test_a_completed_shard_that_is_gone_or_another_object_is_written_again(
    sources, output, content
):
    job = make_job(sources, output)
    merge_all(job, Hands(SerialRunner(), 1))
    store, key = open_store(output), f"model/{job.plan.shards[1].name}"
    store.delete(key)
    if content:
        store.put(key, content * (job.plan.shards[1].size // 5) + b"x" * 4)
    outcome = merge_all(job, Hands(SerialRunner(), 1))
    assert outcome.num_units - outcome.num_resumed == units_of(job, 1)
    assert read_shards(job) == whole(job)


def tell_digests(sources, *, is_right):
    """A manifest beside every source, as metafuse leaves it."""
    for source in sources:
        store, (file,) = open_store(source.uri), source.shards
        crc = crc64nvme(store.read(file.name)) if is_right else "0" * 16
        entry = FileEntry(file.name, file.pin.size, "", crc64nvme=crc)
        manifest = ModelManifest(plan="p", method="linear", files=(entry,), sources=())
        store.put("manifest.json", to_json(manifest))


def test_nothing_of_a_committed_model_is_thrown_away_for_a_digest_that_changed_since(
    sources, output
):
    job = make_job(sources, output)
    tell_digests(sources, is_right=True)
    assert merge_all(job, Hands(SerialRunner(), 1)).num_checked == 2
    store = open_store(output)
    store.put("model/manifest.json", b"{}")
    before = {entry.key: entry.etag for entry in store.list()}
    tell_digests(sources, is_right=False)
    with pytest.raises(DigestError):
        merge_all(job, Hands(SerialRunner(), 1))
    assert {entry.key: entry.etag for entry in store.list()} == before


def test_another_plan_writes_elsewhere_and_takes_nothing_over(sources, output):
    one = make_job(sources, output, weights=(0.25, 0.75)).plan
    other = make_job(sources, output, weights=(0.5, 0.5)).plan
    alone = f"memory://alone-{output.rpartition('/')[2]}"
    publish(alone, other, day=24, before="")
    with stoppable(Stopper(120)), pytest.raises(Stopped):
        publish(output, one, day=24, before="")
    store = open_store(output)
    left = {e.key: e.etag for e in store.list() if f"-{one.short}/" in e.key}
    assert len(left) > 3
    store.delete("lease.json")
    publish(output, other, day=24, before="")
    assert read_promoted(output) == read_promoted(alone)
    assert {e.key: e.etag for e in store.list() if f"-{one.short}/" in e.key} == left
    assert all(f"/model-{one.short}/" in upload.key for upload in store.list_uploads())


class Refusal:
    """The credentials may not list uploads."""

    def strike(self, verb, key, call):
        if verb == "list_uploads":
            raise AccessError(f"{key}: the store refused access")
        return call()


def test_a_merge_that_may_not_list_uploads_ends_all_the_same(sources, output):
    job = make_job(sources, output)
    with stoppable(Refusal()):
        merge_all(job, Hands(SerialRunner(), 1))
    assert read_shards(job) == whole(job)


class Meeting:
    """Two drivers begin their first uploads before either notes it."""

    def __init__(self):
        self.barrier = threading.Barrier(2)
        self.begun, self.aborted = [], []

    def strike(self, verb, key, call):
        value = call()
        if verb == "start_upload":
            self.begun.append(value.id)
            if len(self.begun) <= 2:
                self.barrier.wait(LONG)
        elif verb == "abort":
            self.aborted.append(key)
        return value


def test_of_two_drivers_that_begin_at_once_the_loser_aborts_its_upload(sources, output):
    job = make_job(sources, output, shard_bytes=1 << 20)
    with stoppable(Meeting()) as meeting, ThreadPoolExecutor(2) as pool:
        outcomes = list(pool.map(lambda _: merge_all(job, Hands(ThreadRunner(), 2)), "ab"))
    assert len(meeting.begun) >= 2
    assert meeting.aborted
    assert outcomes[0].files == outcomes[1].files
    assert list(open_store(output).list_uploads()) == []
    assert read_shards(job) == whole(job)


def test_two_drivers_of_one_merge_both_end_with_the_same_bytes(sources, output):
    """The slower driver finds parts written anew and uploads completed by the other."""
    job = make_job(sources, output)
    for number in range(20):
        job = MergeJob(job.plan, output, f"model-{number}", f"ledger-{number}", job.memory)
        with ThreadPoolExecutor(2) as pool:
            runs = [
                pool.submit(merge_all, job, Hands(ThreadRunner(), workers)) for workers in (1, 3)
            ]
            first, second = (run.result() for run in runs)
        assert first.files == second.files
        assert list(open_store(output).list_uploads()) == []
        assert read_shards(job) == whole(job)


@pytest.mark.parametrize("runner", [SerialRunner(), ThreadRunner()], ids=["serial", "threads"])
def test_a_host_that_computes_otherwise_than_finished_units_is_refused(sources, output, runner):
    job = make_job(sources, output)
    stop(job, 80)
    store = open_store(job.output)
    for key in records(job):
        record = from_json(UnitRecord, store.read(key))
        assert record.arithmetic == digest_arithmetic()
        store.put(key, to_json(replace(record, arithmetic="0123456789abcdef")))
    before = len(records(job))
    with pytest.raises(RunnerError, match="computes otherwise") as refusal:
        merge_all(job, Hands(runner, 2))
    assert refusal.value.code == "E-CLUSTER"
    assert len(records(job)) == before


def test_hosts_of_all_units_are_told_with_their_arithmetic(sources, output):
    job = make_job(sources, output)
    stop(job, 80)
    outcome = merge_all(job, Hands(SerialRunner(), 1))
    (host,) = outcome.hosts
    assert (host.host, host.num_units) == (socket.gethostname(), len(job.plan.units))
    assert host.arithmetic == digest_arithmetic()
    assert outcome.num_retried == 0
