"""A small merge that is committed and promoted, and what a reader of the pointer makes of it."""

import hashlib
import itertools
import json
import shutil

from cluster.stores.memory import ROOMS, MemoryStore, Room
from cluster.stores.open_store import open_store
from cluster.workers.hands import Hands
from cluster.workers.runner import SerialRunner
from fusion.manifests.run import RunManifest
from jobs.consume.resolve import block_bytes, is_whole, resolve
from jobs.merge.fuse import Manner, Target, fuse
from jobs.outputs.fenced import Fenced
from jobs.outputs.judgements import keep_judgement, keep_manifest
from jobs.outputs.lease import held_lease
from jobs.outputs.pointer import Nominee, move_pointer, read_pointer
from jobs.outputs.run_folder import RunFolder
from jobs.outputs.runs import Outcome, read_outcome, write_outcome
from tests.support.sample_report import make_report


def publish(output: str, plan, *, day: int, before: str) -> str:
    """What a run does from the merge on: merge, commit, judge, promote, say so."""
    store, run = open_store(output), f"nightly-2026-11-{day}"
    with held_lease(store, run) as lease:
        folder = RunFolder(Fenced(store, lease), run)
        model, ledger = folder.key(f"model-{plan.short}"), folder.key(f"ledger-{plan.short}")
        fused = fuse(
            plan,
            Target(folder.store, model, ledger, "fused", f"fused of {run}"),
            hands=Hands(SerialRunner(), 1),
            manner=Manner(1 << 30),
        )
        report = make_report(run=run, logical_date=f"2026-11-{day}", incumbent=before)
        judgement = keep_judgement(folder, report)
        sha256 = keep_manifest(folder, judgement, lambda of: _manifest(run, fused, of, report))
        nominee = Nominee("nightly", run, fused.folder, sha256, (report.logical_date, 1), before)
        moved = move_pointer(folder.store, nominee)
        assert moved.moved in ("promoted", "already")
        write_outcome(folder, Outcome("promoted", f"latest is now {run}", 0, before))
    return run


def _manifest(run, fused, report_sha256, report) -> RunManifest:
    return RunManifest(
        run=run,
        recipe="nightly",
        logical_date=report.logical_date,
        attempt=1,
        recipe_digest="r",
        model=fused.folder,
        model_manifest_sha256=fused.manifest_sha256,
        verdict=report.verdict,
        scores=(),
        report_sha256=report_sha256,
    )


def read_promoted(output: str) -> dict[str, str]:
    """sha256 of every file of the promoted model, after all were held to the manifests."""
    found = resolve(output)
    store = open_store(found.uri)
    digests = {}
    for entry in found.manifest.files:
        content, step = store.read(entry.name), block_bytes(entry)
        blocks = [content[i : i + step] for i in range(0, len(content), step)]
        assert is_whole(entry, blocks), entry.name
        digests[entry.name] = hashlib.sha256(content).hexdigest()
    assert {e.key for e in store.list()} == {*digests, "manifest.json"}
    return digests


def check_promoted_once(output: str, run: str, before: str, wanted: dict[str, str]) -> None:
    """The run ended as if nothing had happened, and left nothing behind."""
    store = open_store(output)
    assert read_promoted(output) == wanted
    pointer = read_pointer(store).pointer
    assert (pointer.run, pointer.previous, pointer.epoch) == (run, before, 2)
    outcome = read_outcome(RunFolder(store, run))
    assert (outcome.result, outcome.exit_status, outcome.previous) == ("promoted", 0, before)
    assert list(store.list_uploads()) == []


def bury(output: str) -> None:
    """The process that holds the lease has ended: the next one on this host sees that."""
    store = open_store(output)
    try:
        holder = json.loads(store.read("lease.json"))
    except FileNotFoundError:
        return
    place = holder["born"].partition("@")[2]
    store.put("lease.json", json.dumps({**holder, "born": f"0@{place}"}).encode())


def copy_output(source: str, target: str) -> None:
    """An output once more under another name."""
    if source.startswith("memory://"):
        room = MemoryStore(source).room
        ROOMS[target.removeprefix("memory://")] = Room(
            objects=dict(room.objects),
            versions=dict(room.versions),
            count=itertools.count(next(room.count)),  # an etag never comes twice
        )
        return
    there, copied = open_store(source), open_store(target)
    for entry in list(there.list()):
        copied.put(entry.key, there.read(entry.key), is_durable=False)


def drop_output(target: str) -> None:
    """Forget a copy."""
    if target.startswith("memory://"):
        del ROOMS[target.removeprefix("memory://")]
    elif not target.startswith("s3://"):
        shutil.rmtree(target)
