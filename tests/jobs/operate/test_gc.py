import time
import uuid

import pytest

from cluster.stores.memory import MemoryStore
from fusion.errors import ManifestError
from jobs.consume.resolve import resolve
from jobs.doctor.machine import examine
from jobs.errors import PointerError
from jobs.operate.gc import collect, plan_gc
from jobs.operate.promotion import hold, promote, roll_back
from jobs.outputs.fenced import Fenced
from jobs.outputs.lease import held_lease
from jobs.outputs.pointer import read_history, read_pointer
from tests.jobs.run.test_conclude_machine import check_chain
from tests.support.interrupted_store import Crash, InterruptedStore
from tests.support.light_runs import begin, drive, write_model

WEEK = 7 * 86400.0


@pytest.fixture
def store():
    return MemoryStore(f"memory://{uuid.uuid4().hex}")


def sweep(store, keep=0, older_than=-1.0, now=None):
    return collect(
        store, keep=keep, older_than_seconds=older_than, now=now or time.time(), reason="test"
    )


def models(store):
    """Runs whose model's files are all there."""
    return {e.key.split("/")[1] for e in store.list("runs/") if "/model-" in e.key}


def four_nights(store):
    for day in (21, 22, 23):
        drive(store, f"2026-11-{day}")
    drive(store, "2026-11-24", "HOLD")


def test_models_beyond_the_kept_ones_go_and_their_reports_stay(store):
    four_nights(store)
    sweep(store, keep=1)
    assert models(store) == {"nightly-2026-11-23", "nightly-2026-11-22"}
    assert store.read("runs/nightly-2026-11-21/report.json")
    resolve(store.uri)
    check_chain(store)


def test_what_is_young_stays(store):
    four_nights(store)
    assert not sweep(store, older_than=WEEK).leftovers
    assert sweep(store, older_than=WEEK, now=time.time() + WEEK + 60).leftovers


def test_a_plan_says_what_would_go_and_writes_nothing(store):
    four_nights(store)
    before = {entry.key: entry.etag for entry in store.list()}
    plan = plan_gc(store, keep=0, older_than_seconds=-1.0, now=time.time())
    assert {leftover.run for leftover in plan.leftovers} == {
        "nightly-2026-11-21", "nightly-2026-11-22", "nightly-2026-11-24",
    }  # fmt: skip
    assert plan.num_bytes > 0
    assert {entry.key: entry.etag for entry in store.list()} == before


def test_a_hold_keeps_what_it_may_need(store):
    for day in (21, 22, 23):
        drive(store, f"2026-11-{day}")
    roll_back(store, None, reason="bad", is_dry_run=False)
    drive(store, "2026-11-24")
    sweep(store)
    assert models(store) == {"nightly-2026-11-22", "nightly-2026-11-23", "nightly-2026-11-24"}
    promote(store, "nightly-2026-11-24", reason="good", is_dry_run=False)


def test_a_model_that_was_removed_cannot_come_back(store):
    four_nights(store)
    sweep(store)
    with pytest.raises(ManifestError, match="was removed by gc"):
        promote(store, "nightly-2026-11-24", reason="r", is_dry_run=False)
    with pytest.raises(ManifestError, match="was removed by gc"):
        roll_back(store, "nightly-2026-11-22", reason="r", is_dry_run=False)
    assert read_pointer(store).pointer.run == "nightly-2026-11-23"


def test_before_anything_is_promoted_every_model_stays(store):
    drive(store, "2026-11-21", "HOLD")
    sweep(store)
    assert models(store) == {"nightly-2026-11-21"}


def leave_upload(store, run):
    folder = f"runs/{run}/model-{'0' * 12}"
    return store.start_upload(f"{folder}/model.safetensors", size=8, metadata={})


def test_uploads_ledgers_and_baselines_of_finished_runs_go(store):
    drive(store, "2026-11-21")
    upload = leave_upload(store, "nightly-2026-11-21")
    store.put("runs/nightly-2026-11-21/ledger-000000000000/00001-00001.json", b"{}")
    store.put("runs/nightly-2026-11-21/baseline-000000000000/config.json", b"{}")
    store.put(f"probe-{uuid.uuid4().hex}", b"")
    plan = sweep(store)
    assert sorted(x.kind for x in plan.leftovers) == ["baseline", "ledger", "probe", "upload"]
    assert not upload.is_open()
    assert not [e.key for e in store.list() if "ledger" in e.key or "baseline" in e.key]
    assert read_pointer(store).pointer.epoch == 1


def test_a_run_under_a_live_lease_is_left_alone(store):
    drive(store, "2026-11-21")
    begin(store, "2026-11-22")
    upload = leave_upload(store, "nightly-2026-11-22")
    with held_lease(store, "nightly-2026-11-22"):
        assert not sweep(store).abandoned
    assert upload.is_open()


def test_an_abandoned_run_is_finished_so_that_its_driver_cannot_wake_and_promote_it(store):
    drive(store, "2026-11-21")
    plan = begin(store, "2026-11-22").plan
    write_model(store, plan.run)
    upload = leave_upload(store, plan.run)

    class AsleepBeforeThePointer:
        def confirm(self):
            if list(store.list(f"runs/{plan.run}/manifest.json")):
                raise AssertionError("the driver sleeps here")

    with pytest.raises(AssertionError, match="sleeps here"):
        drive(Fenced(store, AsleepBeforeThePointer()), "2026-11-22")
    assert sweep(store).abandoned == (plan.run,)
    assert not upload.is_open()
    assert models(store) == {"nightly-2026-11-21"}
    run, _, state = drive(store, "2026-11-22")
    assert (run, state) == ("nightly-2026-11-22.2", "new")


def test_uploads_that_no_run_made_are_never_touched(store):
    drive(store, "2026-11-21")
    foreign = [
        store.start_upload(key, size=1, metadata={}) for key in ("x", "runs/other/model-1/x")
    ]
    sweep(store)
    assert all(upload.is_open() for upload in foreign)


def test_the_doctor_tells_orphans_from_uploads_that_may_be_taken_up_again(store):
    drive(store, "2026-11-21")
    begin(store, "2026-11-22")
    leave_upload(store, "nightly-2026-11-22")
    (found,) = [f for f in examine(store.uri) if f.what == "uploads"]
    assert (found.is_good, found.text) == (
        True, "1 unfinished, 1 of runs that may be taken up again",
    )  # fmt: skip
    leave_upload(store, "nightly-2026-11-21")
    (found,) = [f for f in examine(store.uri) if f.what == "uploads"]
    assert not found.is_good
    assert "1 orphans" in found.text
    assert "model.safetensors. metafuse gc" in found.text


def operations_of(prepare, action):
    store = prepare()
    counting = InterruptedStore(store)
    action(counting)
    return counting.count


def by_hand(store):
    try:
        promote(store, "nightly-2026-11-22", reason="r", is_dry_run=False)
    except (ManifestError, PointerError):
        return


def prepared():
    store = MemoryStore(f"memory://{uuid.uuid4().hex}")
    four_nights(store)
    return store


def check_whole(store):
    resolve(store.uri)
    check_chain(store)
    assert models(store) >= {read_pointer(store).pointer.run}


def test_gc_at_any_moment_of_a_promotion_never_takes_the_promoted_model():
    for at in range(operations_of(prepared, by_hand)):
        store = prepared()
        by_hand(InterruptedStore(store, at, lambda store=store: sweep(store)))
        check_whole(store)


def test_a_promotion_at_any_moment_of_gc_keeps_its_model():
    moved = set()
    for at in range(operations_of(prepared, sweep)):
        store = prepared()
        sweep(InterruptedStore(store, at, lambda store=store: by_hand(store)))
        check_whole(store)
        moved.add(read_pointer(store).pointer.run)
    assert moved == {"nightly-2026-11-22", "nightly-2026-11-23"}


@pytest.mark.parametrize("event", ["before", "after"])
def test_gc_that_dies_anywhere_leaves_a_whole_model_and_is_finished_by_the_next(event):
    for at in range(operations_of(prepared, sweep)):
        store = prepared()
        with pytest.raises(Crash):
            sweep(InterruptedStore(store, at, event))
        check_whole(store)
        sweep(store)
        check_whole(store)
        assert models(store) == {"nightly-2026-11-23"}


def test_gc_counts_the_pointer_on_and_keeps_a_hold(store):
    four_nights(store)
    hold(store, reason="freeze")
    sweep(store)
    pointer, before = list(read_history(store))[:2]
    assert (pointer.changed.action, pointer.hold) == ("gc", "freeze")
    assert pointer.epoch == before.epoch + 1


def cache_scores(store):
    for name in ("a-1-rank", "a-1-gate"):
        store.put(f"scores/{name}.parquet", b"rows")


def test_cached_scores_go_when_they_are_old_and_nobody_may_read_them(store):
    four_nights(store)
    cache_scores(store)
    store.put("runs/nightly-2026-11-21/scores/a-rank.parquet", b"rows")
    assert not sweep(store, older_than=WEEK).leftovers
    begin(store, "2026-11-25")
    young = plan_gc(store, keep=0, older_than_seconds=3600.0, now=time.time())
    assert not [x for x in young.leftovers if x.kind == "score"]
    with held_lease(store, "nightly-2026-11-25"):
        assert not [x for x in sweep(store).leftovers if x.kind == "score"]
    gone = [x.place for x in sweep(store).leftovers if x.kind == "score"]
    assert gone == ["scores/a-1-gate.parquet", "scores/a-1-rank.parquet"]
    assert [e.key for e in store.list("runs/") if "/scores/" in e.key]


def test_a_run_that_begins_during_gc_keeps_the_cache(store):
    four_nights(store)
    cache_scores(store)
    lease = held_lease(store, "nightly-2026-11-25")

    def begin_at(leftover):
        if leftover.kind == "model" and leftover.run.endswith("21"):
            lease.__enter__()

    try:
        plan = collect(
            store, keep=0, older_than_seconds=-1.0, now=time.time(), reason="test",
            on_removed=begin_at,
        )  # fmt: skip
    finally:
        lease.__exit__(None, None, None)
    assert {x.kind for x in plan.leftovers} == {"model"}
    assert len(list(store.list("scores/"))) == 2


def test_old_ledgers_of_every_finished_run_go_and_those_of_live_ones_stay(store):
    four_nights(store)
    for day in (22, 23):
        store.put(f"runs/nightly-2026-11-{day}/ledger-{'0' * 12}/00001-00001.json", b"{}")
    begin(store, "2026-11-25")
    store.put(f"runs/nightly-2026-11-25/ledger-{'0' * 12}/00001-00001.json", b"{}")
    with held_lease(store, "nightly-2026-11-25"):
        sweep(store, keep=9)
    assert [e.key.split("/")[1] for e in store.list("runs/") if "/ledger-" in e.key] == [
        "nightly-2026-11-25"
    ]
