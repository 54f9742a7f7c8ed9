"""The speed of a merge, read from the times and contents of its records."""

import uuid
from dataclasses import replace

import pytest

from cluster.stores.memory import MemoryStore
from cluster.stores.store import ObjectInfo
from fusion.canonical import to_json
from jobs.merge.ledger import UnitRecord
from jobs.merge.ledger_pace import RECORDS_READ, find_pace

MB = 1_000_000
RECORD = UnitRecord(
    unit="", upload="u", number=1, offset=0, size=MB, etag="e", crc64nvme="", sha256="",
    read_bytes=0, seconds=1.0, peak_bytes=0, largest=0.0, worker="",
)  # fmt: skip


@pytest.fixture
def store():
    return MemoryStore(f"memory://{uuid.uuid4().hex}")


def pace_of(store, records, *, now, left=10 * MB):
    """The pace of records of (modified, worker, seconds), 1 MB each."""
    entries = []
    for number, (modified, worker, seconds) in enumerate(records, 1):
        key = f"00001-{number:05d}.json"
        record = replace(RECORD, unit=key.removesuffix(".json"), worker=worker, seconds=seconds)
        store.put(key, to_json(record))
        entries.append(ObjectInfo(key, 1, "", None, modified))
    return find_pace(store, entries, {entry.key: MB for entry in entries}, left, now=now)


def test_a_ledger_without_records_has_no_pace(store):
    assert pace_of(store, [], now=0.0) is None


def test_rates_workers_and_the_slowest_unit_come_from_the_records(store):
    records = [(1000.0 + t, f"h{t % 2}/1", 1.0 + (t == 7)) for t in range(21)]
    pace = pace_of(store, records, now=1021.0)
    assert pace.rate_mean == pace.rate_now == MB
    assert pace.seconds_left == 10
    assert (pace.workers, pace.hosts) == (("h0/1", "h1/1"), ("h0", "h1"))
    assert (pace.slowest.unit, pace.slowest.seconds, pace.slowest.host) == ("00001-00008", 2, "h1")


def test_a_night_between_two_drivers_is_in_no_rate(store):
    records = [(1000.0 + t, "h/1", 1.0) for t in range(11)]
    records += [(50_000.0 + t, "h/2", 1.0) for t in range(11)]
    pace = pace_of(store, records, now=50_011.0)
    assert pace.rate_mean == MB
    assert pace.workers == ("h/2",)


def test_where_nobody_finished_a_unit_for_long_nobody_is_at_work(store):
    pace = pace_of(store, [(1000.0, "h/1", 1.0), (1001.0, "h/1", 1.0)], now=2000.0)
    assert (pace.rate_now, pace.workers, pace.idle_seconds) == (0.0, (), 999.0)


def test_a_clock_that_is_behind_that_of_the_store_does_no_harm(store):
    pace = pace_of(store, [(1000.0, "h/1", 1.0), (1001.0, "h/1", 1.0)], now=900.0)
    assert (pace.rate_now, pace.workers, pace.idle_seconds) == (MB, ("h/1",), 0.0)


def test_of_many_records_only_the_newest_are_read(store):
    records = [(1000.0 + t, f"old/{t}", 90.0) for t in range(10)]
    records += [(1100.0 + t, "h/1", 2.0) for t in range(RECORDS_READ)]
    pace = pace_of(store, records, now=1100.0 + RECORDS_READ)
    assert pace.slowest.seconds == 2
