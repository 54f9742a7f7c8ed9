"""How fast a merge goes and which workers do it, from the ledger alone, even without its driver."""

import contextlib
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import pairwise

from cluster.errors import NotFoundError
from cluster.stores.store import ObjectInfo, Store
from cluster.workers.runner import host_of
from fusion.canonical import from_json
from fusion.errors import ManifestError
from jobs.console.figures import AT_WORK_SECONDS, SlowUnit
from jobs.merge.ledger import UnitRecord

# Rates "now" are of this long before the newest record.
NEW_SECONDS = 60.0
# No worker was at work between records so far apart (or 3 of the longest units): in no rate.
PAUSE_SECONDS = 120.0
# A large merge has thousands of records, each a request: the newest tell who is at work.
RECORDS_READ = 64
READERS = 8


@dataclass(frozen=True, slots=True)
class MergePace:
    """What the records of a merge say of its speed.

    Attributes:
        rate_now: bytes a second of the last minute; None where it is not known.
        rate_mean: bytes a second while a worker was at work; None where it is not known.
        seconds_left: seconds until the merge is done at the mean rate; None where it is not known.
        idle_seconds: seconds since the newest record.
        workers: workers that finished a unit lately, host/process.
        hosts: hosts of the workers that finished a unit lately.
        slowest: slowest unit among the records that were read, which are the newest; None if not
            known.
    """

    rate_now: float | None
    rate_mean: float | None
    seconds_left: float | None
    idle_seconds: float
    workers: tuple[str, ...]
    hosts: tuple[str, ...]
    slowest: SlowUnit | None


def find_pace(
    store: Store, records: Sequence[ObjectInfo], sizes: Mapping[str, int], left: int, *, now: float
) -> MergePace | None:
    """The pace of a merge, by when its records were written; None where there are none.

    Costs a request for each of at most 64 records.

    Args:
        store: store of the output.
        records: records of the merge's units, as the store lists them.
        sizes: bytes of each unit, by key of its record.
        left: bytes that are not done.
        now: current time in seconds since 1970.
    """
    if not records:
        return None
    newest_last = sorted(records, key=lambda entry: entry.modified)
    newest = newest_last[-1].modified
    idle = max(0.0, now - newest)
    read = _read(store, [entry.key for entry in newest_last[-RECORDS_READ:]])
    slowest = max(read.values(), key=lambda record: record.seconds, default=None)
    lately = max(AT_WORK_SECONDS, 3 * slowest.seconds if slowest else 0.0)
    workers = {
        read[entry.key].worker
        for entry in newest_last[-RECORDS_READ:]
        if entry.key in read and now - entry.modified <= lately
    }
    pause = max(PAUSE_SECONDS, 3 * slowest.seconds if slowest else 0.0)
    mean = _rate(newest_last, sizes, pause)
    recent = [entry for entry in newest_last if newest - entry.modified <= NEW_SECONDS]
    return MergePace(
        rate_now=_rate(recent, sizes, pause) if idle <= lately else 0.0,
        rate_mean=mean,
        seconds_left=left / mean if mean else None,
        idle_seconds=idle,
        workers=tuple(sorted(workers)),
        hosts=tuple(sorted({host_of(worker) for worker in workers})),
        slowest=_slow(slowest) if slowest else None,
    )


def _rate(records: Sequence[ObjectInfo], sizes: Mapping[str, int], pause: float) -> float | None:
    """Bytes a second between records; the first one marks the beginning only."""
    num_bytes, seconds = 0, 0.0
    for before, entry in pairwise(records):
        gap = entry.modified - before.modified
        if gap <= pause:
            num_bytes, seconds = num_bytes + sizes[entry.key], seconds + gap
    return num_bytes / seconds if seconds > 0 else None


def _read(store: Store, keys: Sequence[str]) -> dict[str, UnitRecord]:
    def read(key: str) -> UnitRecord | None:
        # Removed by a driver that begins anew, or written by another version.
        with contextlib.suppress(NotFoundError, ManifestError):
            return from_json(UnitRecord, store.read(key))
        return None

    with ThreadPoolExecutor(READERS, "status") as pool:
        found = zip(keys, pool.map(read, keys), strict=True)
        return {key: record for key, record in found if record is not None}


def _slow(record: UnitRecord) -> SlowUnit:
    return SlowUnit(record.unit, record.seconds, host_of(record.worker))
