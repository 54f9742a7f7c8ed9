"""Hundreds of nights on a simulated clock: each logical date once, whatever happens around it."""

import itertools
import random
import uuid
from collections import Counter
from datetime import datetime, timedelta
from zoneinfo import ZoneInfo

import pytest

from cluster.stores.open_store import open_store
from jobs.schedule.timetable import ticks
from tests.support.nights import Host, World, moment, run_until, some_plan, state_of, timetable

DAY = 86400.0
# Zone: a cron line at a time that its clock changes touch, and two evenings shortly before them.
ZONES = {
    "Europe/Paris": ("30 2 * * *", ("2027-03-20", "2027-10-22")),
    "America/New_York": ("30 1 * * *", ("2027-03-06", "2027-10-30")),
    "Australia/Lord_Howe": ("45 1 * * *", ("2027-03-28", "2027-09-25")),
    "America/Santiago": ("30 23 * * *", ("2027-03-28", "2027-08-28")),
    "Africa/Casablanca": ("30 2 * * *", ("2027-01-30", "2027-03-06")),
}
NIGHTS = 16


def fresh_store(tmp_path, kind):
    return open_store(f"memory://{uuid.uuid4().hex}" if kind == "memory" else str(tmp_path))


def due(table, begin, end):
    return [tick.date for tick in ticks(table, begin, end)]


def settled(world):
    """How often each date was told to have come to an end, and how."""
    kinds = ("done", "failed", "missed", "skip", "cancelled")
    return Counter((line.date, line.decision) for line in world.lines if line.decision in kinds)


@pytest.mark.parametrize(
    ("zone", "first"), [(zone, first) for zone in ZONES for first in ZONES[zone][1]]
)
def test_two_schedulers_start_each_date_once_through_a_clock_change(zone, first):
    begin = moment(f"{first} 12:00", zone)
    end = moment(f"{first} 12:00", zone) + NIGHTS * DAY
    offsets = {
        datetime.fromtimestamp(begin + day * DAY, ZoneInfo(zone)).utcoffset()
        for day in range(NIGHTS)
    }
    assert len(offsets) == 2, "the clocks change in these nights"
    table = timetable(ZONES[zone][0], zone)
    store = fresh_store(None, "memory")
    world = World(begin)
    hosts = [Host(world, store, table, "a", skew=-900), Host(world, store, table, "b", skew=900)]
    run_until(world, hosts, end)
    dates = due(table, begin, end)
    assert dates == [
        (datetime.fromisoformat(first) + timedelta(day + (zone != "America/Santiago")))
        .date()
        .isoformat()
        for day in range(NIGHTS)
    ]
    assert world.begun == dates
    assert settled(world) == Counter((date, "done") for date in dates)


TROUBLES = ("none", "before", "after", "unheard", "at_begin", "off", "both_off", "restart", "race")


def wake(host):
    host.wake = host.world.now
    host.step()


def trouble(generator, hosts):
    """Something goes wrong on one host tonight."""
    kind = generator.choice(TROUBLES)
    host = generator.choice(hosts)
    if kind in ("before", "after", "unheard"):
        host.store.crash = kind
    elif kind == "at_begin":
        host.crash_at_begin = True
    elif kind == "off":
        host.power_off()
    elif kind == "both_off":
        for each in hosts:
            each.power_off()
    elif kind == "race":
        other = hosts[1 - hosts.index(host)]
        host.store.outrun = lambda: wake(other)
    elif kind == "restart" and host.scheduler is not None:
        host.scheduler.stop(host.world.now + host.skew, host.world.now)
        host.start()
    return kind


@pytest.mark.parametrize(
    ("kind", "seed", "overlap", "nights"),
    [("memory", 1, "skip", 70), ("memory", 2, "queue", 70), ("memory", 3, "cancel_older", 70),
     ("local", 4, "skip", 40),
     *(pytest.param("memory", 5 + i, overlap, 400, marks=pytest.mark.slow)
       for i, overlap in enumerate(("skip", "queue", "cancel_older"))),
     pytest.param("local", 8, "cancel_older", 100, marks=pytest.mark.slow)],
)  # fmt: skip
def test_crashes_at_every_point_lose_no_date(tmp_path, kind, seed, overlap, nights):
    """Hosts die before and after a claim, between claim and start, in the middle of a night."""
    generator = random.Random(seed)
    zone = generator.choice(list(ZONES))
    table = timetable(ZONES[zone][0], zone, overlap)
    begin = moment(f"{ZONES[zone][1][0]} 12:00", zone)
    store = fresh_store(tmp_path, kind)
    world = World(begin)
    plan = some_plan(seed)
    hosts = [
        Host(world, store, table, name, skew=skew, plan=plan)
        for name, skew in (("a", 0), ("b", 37))
    ]
    happened = Counter()
    for tick in itertools.islice(ticks(table, begin), nights):
        run_until(world, hosts, tick.at - 100)
        happened[trouble(generator, hosts)] += 1
        run_until(world, hosts, tick.at + generator.choice((60, 700, 3 * 3600, 8 * 3600)))
        for host in hosts:
            if host.scheduler is None:
                host.start()
        run_until(world, hosts, tick.at + 20 * 3600)
    dates = due(table, begin, world.now)
    assert len(dates) == nights
    assert set(happened) == set(TROUBLES)
    ends = settled(world)
    recorded = {night.date: night for night in state_of(store).nights}
    for date in dates[-len(recorded) :]:
        assert not recorded[date].is_open
    finished = {date for date, code in world.completed if code in (0, 3, 4, 5)}
    for date in dates:
        told = {k: n for (d, k), n in ends.items() if d == date}
        assert sum(told.values()) <= 1, (date, told)  # a host that dies takes its line along
        if date in finished:
            assert told.keys() <= {"done"}
        elif told:
            assert told.keys() <= {"missed", "failed"}
    extra = Counter(date for date, code in world.completed if code in (0, 3, 4, 5))
    assert max(extra.values()) == 1
    assert len(finished) > 0.6 * nights
