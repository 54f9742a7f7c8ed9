import uuid

import pytest

from cluster.stores.memory import MemoryStore
from fusion.checkpoints.checkpoint import Checkpoint, Pin, PinnedFile, TensorSpec
from fusion.plans.layout import plan_merge
from fusion.plans.requests import model_request
from fusion.plans.wish import MergeWish
from jobs.commands.status import follow
from jobs.merge.ledger import Ledger, PlannedUnits
from jobs.operate.promotion import promote
from jobs.operate.status import describe_run, find_runs, look
from jobs.outputs.lease import held_lease
from tests.jobs.outputs.test_lease import put as put_lease
from tests.support.light_runs import begin, drive


@pytest.fixture
def store():
    return MemoryStore(f"memory://{uuid.uuid4().hex}")


def watch(store, on_sleep=lambda: None, seconds=7.0):
    return look(store, None, watch_seconds=seconds, sleep=lambda _: on_sleep()).lease.state


def test_a_lease_is_alive_only_if_its_heartbeat_is_seen_to_advance(store):
    assert watch(store) == "free"
    put_lease(store)
    assert watch(store) == "silent"
    assert watch(store, on_sleep=lambda: put_lease(store, beat=7)) == "alive"
    put_lease(store, released=True)
    assert watch(store) == "free"


def test_a_lease_of_a_process_that_has_ended_is_told_without_waiting(store):
    with held_lease(store, "r-1"):
        holder = store.read("lease.json").replace(b'"born": "', b'"born": "earlier')
        store.put("lease.json", holder)

        def never():
            raise AssertionError("nothing to wait for")

        assert watch(store, on_sleep=never) == "gone"


def test_steps_are_told_by_what_is_stored(store):
    begin(store, "2026-11-21")
    assert describe_run(store, "nightly-2026-11-21").step == "found"
    drive(store, "2026-11-21", "REFUSE")
    found = describe_run(store, "nightly-2026-11-21")
    assert (found.step, found.verdict) == ("refused", "REFUSE")
    assert found.model.startswith("runs/nightly-2026-11-21/model-")


def plan_of_two_shards():
    specs = tuple(
        TensorSpec(f"t{i}", "BF16", (64, 1024), "s", i * 131072, (i + 1) * 131072) for i in range(5)
    )
    pinned = (PinnedFile("s", Pin(5 * 131072, "e", None)),)
    checkpoint = Checkpoint("a", "memory://none", pinned, specs, (), {}, "")
    request = model_request([checkpoint], [1.0], MergeWish())
    return plan_merge(request, shard_bytes=3 * 131072, unit_bytes=131072)


def test_a_merge_is_told_in_units_and_exact_bytes_by_listing_alone(store):
    begin(store, "2026-11-21")
    plan = plan_of_two_shards()
    folder = f"runs/nightly-2026-11-21/ledger-{plan.short}"
    Ledger(store, folder).announce(plan)
    for unit in plan.units[:2]:
        store.put(f"{folder}/{unit.id}.json", b"a record, which is not read")
    found = describe_run(store, "nightly-2026-11-21")
    assert (found.step, found.num_done, found.num_units) == ("merging", 2, len(plan.units))
    assert found.done_bytes == sum(unit.end - unit.start for unit in plan.units[:2])
    assert found.merge_bytes == sum(unit.end - unit.start for unit in plan.units)


def test_sizes_of_units_follow_from_those_of_shards():
    planned = PlannedUnits(8, (20, 8))
    assert planned.num_units == 4
    sizes = [planned.bytes_of(unit) for unit in ("00001-00001", "00001-00003", "00002-00001")]
    assert sizes == [8, 4, 8]
    assert planned.bytes_of("00003-00001") == planned.bytes_of("nonsense") == 0


def test_runs_are_told_by_date_and_attempt(store):
    for date, data in (("2026-11-22", "1"), ("2026-11-21", "1"), ("2026-11-21", "2")):
        drive(store, date, data=data)
    assert find_runs(store) == (
        "nightly-2026-11-21", "nightly-2026-11-21.2", "nightly-2026-11-22",
    )  # fmt: skip


def test_a_pointer_that_was_removed_is_not_taken_for_none(store):
    drive(store, "2026-11-21")
    drive(store, "2026-11-22")
    store.delete("latest.json")
    found = look(store, None, watch_seconds=0)
    assert found.pointer is None
    assert found.lost.code == "E-POINTER"
    assert "pointer-log/" in found.lost.message


def test_the_first_pointer_is_missed_by_the_outcome_of_its_run(store):
    drive(store, "2026-11-21", "HOLD")
    assert look(store, None, watch_seconds=0).lost is None
    run, *_ = drive(store, "2026-11-22")
    assert look(store, None, watch_seconds=0).lost is None
    store.delete("latest.json")
    lost = look(store, None, watch_seconds=0).lost
    assert lost.code == "E-POINTER"
    assert run in lost.message
    promote(store, run, reason="latest.json was lost", is_dry_run=False)
    assert look(store, None, watch_seconds=0).pointer.run == run


def test_following_says_lines_until_nobody_works_on_it(store):
    begin(store, "2026-11-21")
    put_lease(store)
    lines, beats = [], iter(range(1, 100))

    def sleep(seconds):
        if len(lines) < 3:
            put_lease(store, beat=next(beats))
        else:
            put_lease(store, released=True)

    found = follow(store, None, watch_seconds=7, say=lines.append, sleep=sleep, clock=lambda: 0.0)
    assert lines == ["nightly-2026-11-21  found"] * 3
    assert found.lease.state == "free"


def test_following_ends_with_the_run(store):
    drive(store, "2026-11-21")
    put_lease(store)
    found = follow(store, None, watch_seconds=0, say=None)
    assert found.run.outcome.result == "promoted"
