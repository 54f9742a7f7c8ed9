"""What a scheduler decides, case by case."""

import itertools
import json
import subprocess
import uuid
from dataclasses import replace
from datetime import datetime
from zoneinfo import ZoneInfo

import pytest

from cluster.stores.open_store import open_store
from jobs.cli.main import main
from jobs.schedule.nights import KEPT_DECISIONS, KEPT_NIGHTS, MAX_TRIES
from jobs.schedule.timetable import clock_change_warning, ticks
from tests.support.nights import Host, World, moment, run_until, state_of, timetable

START = moment("2026-11-20 12:00")


@pytest.fixture
def store():
    return open_store(f"memory://{uuid.uuid4().hex}")


def play(store, table=None, **changes):
    """A world and one host in it."""
    world = World(START)
    return world, Host(world, store, table or timetable(), "a", **changes)


def told(world):
    return [(line.decision, line.date) for line in world.lines]


def at(text):
    return moment(f"2026-11-{text}")


def nights(store):
    return {night.date: night.status for night in state_of(store).nights}


def test_a_new_scheduler_owes_nothing_of_the_past(store):
    world, host = play(store)
    run_until(world, [host], at("21 03:59"))
    assert told(world) == []
    run_until(world, [host], at("21 05:00"))
    assert told(world) == [("start", "2026-11-21"), ("done", "2026-11-21")]


def test_after_three_days_off_the_latest_night_runs_once_and_the_others_are_missed(store):
    world, host = play(store)
    run_until(world, [host], at("21 06:00"))
    host.power_off()
    run_until(world, [], at("24 07:00"))
    host.start()
    run_until(world, [host], at("24 20:00"))
    assert told(world)[2:] == [
        ("missed", "2026-11-22"), ("missed", "2026-11-23"), ("start", "2026-11-24"),
        ("done", "2026-11-24"),
    ]  # fmt: skip
    assert "3.0 h late" in world.lines[4].reason
    host.start()
    run_until(world, [host], at("24 23:00"))
    assert len(world.lines) == 6, "a restart tells nothing again"


def test_a_night_that_is_too_late_is_missed(store):
    world, host = play(store)
    run_until(world, [host], at("20 20:00"))
    host.power_off()
    run_until(world, [], at("21 10:01"))
    host.start()
    run_until(world, [host], at("21 20:00"))
    assert told(world) == [("missed", "2026-11-21")]
    assert "6.0 h late, catch_up is 6 h" in world.lines[0].reason


@pytest.mark.parametrize("code", [2, 10, 11, 12])
def test_what_will_not_get_better_is_not_tried_again(store, code):
    world, host = play(store, plan=lambda _: (60, code))
    run_until(world, [host], at("21 20:00"))
    assert told(world) == [("start", "2026-11-21"), ("failed", "2026-11-21")]
    assert host.scheduler.exit_status == code


@pytest.mark.parametrize("code", [13, 20, 21, 22, 23, 30, 40, 70, 130, 137])
def test_what_may_get_better_is_tried_a_few_times_further_and_further_apart(store, code):
    begun = []

    def plan(_):
        begun.append(world.now)
        return 10, code

    world, host = play(store, plan=plan)
    run_until(world, [host], at("21 20:00"))
    assert len(begun) == MAX_TRIES
    waits = [later - earlier for earlier, later in itertools.pairwise(begun)]
    assert all(b > 2 * a for a, b in itertools.pairwise(waits))
    assert told(world)[-1] == ("failed", "2026-11-21")


def test_tries_end_with_the_catch_up_window(store):
    world, host = play(store, timetable(hours=0.25), plan=lambda _: (10, 40))
    run_until(world, [host], at("21 20:00"))
    assert [kind for kind, _ in told(world)] == [
        "start",
        "retry",
        "start",
        "retry",
        "start",
        "failed",
    ]
    assert "no time is left in catch_up" in world.lines[-1].reason


def test_a_night_that_waits_gives_way_to_the_next(store):
    world, host = play(store, timetable(hours=48), plan=lambda d: (10, 40 if "21" in d else 0))
    run_until(world, [host], at("21 04:20"))
    host.power_off()
    run_until(world, [], at("22 05:00"))
    host.start()
    run_until(world, [host], at("22 08:00"))
    assert told(world)[-3:] == [
        ("failed", "2026-11-21"), ("start", "2026-11-22"), ("done", "2026-11-22"),
    ]  # fmt: skip


LONG = {"2026-11-21": (30 * 3600, 0)}


@pytest.mark.parametrize(
    ("overlap", "expected"),
    [
        ("skip", {"2026-11-21": "done", "2026-11-22": "skipped", "2026-11-23": "done"}),
        ("queue", {"2026-11-21": "done", "2026-11-22": "done", "2026-11-23": "done"}),
        ("cancel_older", {"2026-11-21": "cancelled", "2026-11-22": "done", "2026-11-23": "done"}),
    ],
)
def test_a_night_that_is_due_while_another_runs(store, overlap, expected):
    table = timetable(overlap=overlap)
    world = World(START)
    plan = lambda date: LONG.get(date, (60, 0))  # noqa: E731
    hosts = [Host(world, store, table, f"h{n}", plan=plan) for n in range(2)]
    run_until(world, hosts, at("23 12:00"))
    assert nights(store) == expected
    assert world.begun == [date for date in expected if expected[date] != "skipped"]
    assert len(told(world)) == len(set(told(world)))
    for earlier, later in zip(hosts[0].children, hosts[0].children[1:], strict=False):
        assert earlier.until <= later.until


def test_only_the_latest_night_waits_in_the_queue(store):
    world, host = play(
        store, timetable(overlap="queue"), plan=lambda d: (60 * 3600, 0) if "21" in d else (60, 0)
    )
    run_until(world, [host], at("25 00:00"))
    assert nights(store) == {
        "2026-11-21": "done", "2026-11-22": "skipped", "2026-11-23": "done", "2026-11-24": "done",
    }  # fmt: skip


@pytest.mark.parametrize("when", ["before", "after", "at_begin", "running"])
def test_a_claim_whose_scheduler_died_is_taken_up_by_another(store, when):
    world = World(START)
    hosts = [Host(world, store, timetable(hours=0), name, plan=lambda _: (600, 0)) for name in "ab"]
    run_until(world, hosts, at("21 03:59"))
    if when == "at_begin":
        hosts[0].crash_at_begin = True
    elif when != "running":
        hosts[0].store.crash = when
    run_until(world, hosts, at("21 04:03"))
    if when == "running":
        hosts[0].power_off()
    run_until(world, hosts, at("21 06:00"))
    assert hosts[0].scheduler is None
    assert world.completed == [("2026-11-21", 0)]
    assert nights(store) == {"2026-11-21": "done"}
    kinds = [kind for kind, _ in told(world)]
    assert ("take_over" in kinds) == (when != "before")


def test_a_scheduler_that_was_stopped_puts_its_night_back_and_the_next_goes_on(store):
    world, host = play(store, timetable(hours=0), plan=lambda _: (3600, 0))
    run_until(world, [host], at("21 04:10"))
    host.scheduler.stop(world.now, world.now)
    assert told(world)[-1] == ("stopped", "2026-11-21")
    (night,) = state_of(store).nights
    assert (night.status, night.tries) == ("waiting", 0)
    run_until(world, [], at("21 09:00"))
    host.start()
    run_until(world, [host], at("21 12:00"))
    assert told(world)[-2:] == [("start", "2026-11-21"), ("done", "2026-11-21")]


def test_two_schedulers_that_decide_at_the_same_moment_start_one_night(store):
    world = World(START)
    a, b = (Host(world, store, timetable(), name) for name in "ab")
    run_until(world, [a, b], at("21 03:59"))

    def outrun():
        b.wake = world.now
        b.step()

    world.now = at("21 04:00")
    a.wake, a.store.outrun = world.now, outrun
    a.step()
    assert world.begun == ["2026-11-21"]
    assert [line.by for line in world.lines] == ["b-1"]
    run_until(world, [a, b], at("21 06:00"))
    assert told(world) == [("start", "2026-11-21"), ("done", "2026-11-21")]


@pytest.mark.parametrize("overlap", ["skip", "queue", "cancel_older"])
def test_a_claim_of_the_dead_does_not_cost_the_next_night(store, overlap):
    """Tonight waits until it is known whether the scheduler of last night lives."""
    world, host = play(store, timetable(overlap=overlap), plan=lambda _: (3600, 0))
    run_until(world, [host], at("21 04:10"))
    host.power_off()
    run_until(world, [], at("22 04:00") + 1)
    host.start()
    run_until(world, [host], at("22 06:00"))
    assert nights(store) == {"2026-11-21": "failed", "2026-11-22": "done"}


def test_a_scheduler_that_froze_leaves_the_night_to_whoever_took_over(store):
    world = World(START)
    hosts = [Host(world, store, timetable(), name, plan=lambda _: (3600, 0)) for name in "ab"]
    run_until(world, hosts, at("21 04:05"))
    assert [host.name for host in hosts if host.children] == ["a"]
    run_until(world, hosts[1:], at("21 04:20"))
    assert hosts[1].children
    run_until(world, hosts, at("21 06:00"))
    assert world.completed == [("2026-11-21", 0)]
    assert [line.by for line in world.lines if line.decision == "done"] == ["b-1"]


def test_an_answer_of_the_store_that_is_lost_starts_nothing_twice(store):
    world, host = play(store)
    run_until(world, [host], at("21 03:00"))
    host.store.crash = "unheard"
    run_until(world, [host], at("21 06:00"))
    assert told(world) == [("start", "2026-11-21"), ("done", "2026-11-21")]
    assert world.begun == ["2026-11-21"]


def test_another_time_in_the_recipe_makes_nothing_missed(store):
    world, host = play(store)
    run_until(world, [host], at("22 12:00"))
    host.table = timetable("0 11 * * *")
    host.start()
    run_until(world, [host], at("23 12:00"))
    assert told(world)[-3:] == [("changed", ""), ("start", "2026-11-23"), ("done", "2026-11-23")]
    assert "is '0 11 * * *' in UTC" in world.lines[-3].reason


def test_the_state_stays_small(store):
    world, host = play(store, timetable("*/10 * * * *"), plan=lambda _: (30, 0))
    run_until(world, [host], at("21 12:00"))
    state = state_of(store)
    assert len(state.nights) == KEPT_NIGHTS
    assert len(state.log) == KEPT_DECISIONS
    assert state.count == 2 * len(world.begun)
    assert world.begun[0] == "2026-11-20T1210Z"
    assert len(set(world.begun)) == len(world.begun) == 143
    host.power_off()
    run_until(world, [], at("28 12:01"))
    host.start()
    run_until(world, [host], at("28 12:05"))
    assert any("978 earlier nights" in line.reason for line in world.lines)
    assert world.begun[-1] == "2026-11-28T1200Z"


# Ticks


def local(table, begin, end):
    zone = ZoneInfo(table.zone)
    return [
        (tick.date, datetime.fromtimestamp(tick.at, zone).strftime("%d %H:%M"))
        for tick in ticks(table, moment(begin, table.zone), moment(end, table.zone))
    ]


def test_a_time_that_is_skipped_comes_right_after_and_one_that_is_repeated_once():
    paris = timetable("30 2 * * *", "Europe/Paris")
    assert local(paris, "2027-03-27 12:00", "2027-03-29 12:00") == [
        ("2027-03-28", "28 03:00"), ("2027-03-29", "29 02:30"),
    ]  # fmt: skip
    assert local(paris, "2027-10-30 12:00", "2027-11-01 12:00") == [
        ("2027-10-31", "31 02:30"), ("2027-11-01", "01 02:30"),
    ]  # fmt: skip


@pytest.mark.parametrize("zone", ["Europe/Paris", "Australia/Lord_Howe", "America/Santiago"])
@pytest.mark.parametrize("cron", ["30 2 * * *", "*/30 * * * *", "0,30 1,2 * * *", "45 23 * * *"])
def test_ticks_do_not_depend_on_where_one_starts_to_look(zone, cron):
    table = timetable(cron, zone)
    for first in ("2027-03-26", "2027-09-30", "2027-10-29"):
        begin = moment(first, zone)
        end = begin + 8 * 86400
        whole = list(ticks(table, begin, end))
        assert [t.date for t in whole] == sorted({t.date for t in whole})
        for tick in whole[:: max(len(whole) // 40, 1)]:
            assert next(ticks(table, tick.at - 1)) == tick
            following = next(ticks(table, tick.at))
            assert following.at > tick.at
            assert following.date > tick.date


@pytest.mark.parametrize(
    ("cron", "zone", "is_warned"),
    [("30 2 * * *", "Europe/Paris", True), ("30 1 * * *", "Europe/Paris", True),
     ("0 4 * * *", "Europe/Paris", False), ("30 2 * * *", "Etc/UTC", False),
     ("30 2 * * *", "Asia/Tokyo", False), ("30 23 * * *", "America/Santiago", True),
     ("30 0 * * *", "America/Santiago", True), ("30 4 * * *", "America/Santiago", False),
     ("0 * * * *", "Europe/Paris", False)],
)  # fmt: skip
def test_times_near_clock_changes_are_warned_of(cron, zone, is_warned):
    said = clock_change_warning(timetable(cron, zone), START)
    assert (said is not None) == is_warned
    if zone == "Europe/Paris" and is_warned:
        assert "(next 2027-03-28)" in said


# The verb


def test_list_shows_what_comes_and_what_was(tmp_path, capsys):
    output = tmp_path / "out"
    recipe = tmp_path / "nightly.yaml"
    recipe.write_text(
        "name: nightly\ncandidates: [c/*]\n"
        "task: {kind: text-classification, data: eval.parquet}\noutput: out\n"
        'schedule: {cron: "0 4 * * *", zone: Europe/Paris, catch_up: 6h}\n'
    )
    for words in ((), ("--json",)):
        with pytest.raises(SystemExit) as left:
            main(["schedule", "list", str(recipe), *words])
        assert left.value.code == 0
    out = capsys.readouterr().out
    assert "no night yet" in out
    assert json.loads(out.splitlines()[-1])["nights"] == []
    assert not output.exists(), "looking writes nothing"

    world = World(START)
    host = Host(world, open_store(str(output)), timetable(), "a")
    run_until(world, [host], at("22 12:00"))
    with pytest.raises(SystemExit):
        main(["schedule", "list", str(recipe), "--json", "--count", "2"])
    said = json.loads(capsys.readouterr().out)
    assert [night["status"] for night in said["nights"]] == ["done", "done"]
    assert said["nights"][0]["run"] == "nightly-2026-11-21"
    assert [line["decision"] for line in said["decisions"]] == ["start", "done"] * 2
    assert len(said["next"]) == 2
    with pytest.raises(SystemExit):
        main(["schedule", "list", str(recipe)])
    assert "2026-11-22  2026-11-22 04:00Z  done" in capsys.readouterr().out


def test_commands_of_nights():
    from pathlib import Path

    from jobs.schedule.child import METAFUSE, Launch

    launch = Launch(Path("/r.yaml"), "nightly")
    assert launch.command("2026-11-24")[len(METAFUSE) :] == [
        "run", "--unattended", "/r.yaml", "--date", "2026-11-24",
    ]  # fmt: skip
    ray = replace(launch, address="auto").command("2026-11-24")
    assert ray[len(METAFUSE) :] == [
        "run", "--unattended", "/r.yaml", "--date", "2026-11-24", "--address", "auto",
    ]  # fmt: skip
    submitted = replace(launch, address="http://head:8265")
    assert submitted.command("2026-11-24T0400Z")[len(METAFUSE) :] == [
        "submit", "/r.yaml", "--date", "2026-11-24T0400Z", "--address", "http://head:8265",
    ]  # fmt: skip
    for command in (ray, submitted.command("2026-11-24")):
        done = subprocess.run([*command, "--help"], capture_output=True, check=False)
        assert done.returncode == 0
