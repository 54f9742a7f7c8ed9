"""`progress.json` at an output: what a driver says of its run every few seconds, for readers only.

It stands beside the lease, not in the run's folder, names the run and the driver, and nothing is
ever decided by it: a driver that wakes from the dead may write it once more, and readers see by
the lease that it is not the one at work.
"""

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from cluster.errors import ClusterError, NotFoundError
from cluster.stores.store import Store
from cluster.workers.patience import PATIENCE
from cluster.workers.runner import host_of
from fusion.canonical import from_json, to_json
from fusion.errors import ManifestError
from jobs.console.figures import Course, Figures, Say, SlowUnit, Steps, go_on
from jobs.outputs.keys import PROGRESS_KEY
from jobs.outputs.lease import Lease

# More names than a person reads; a pool may have thousands of workers.
WORKERS_NAMED = 64


@dataclass(frozen=True, slots=True)
class ProgressNote:
    """What a driver says of the step it is at.

    Attributes:
        run: name of the run with attempt.
        owner: owner of the lease.
        written: time of the note in seconds since 1970, by the driver's clock.
        step: name of the step, such as "merge fused".
        done: number of units done.
        total: number of all units.
        num_bytes: bytes done; 0 where bytes are not counted.
        total_bytes: bytes of the whole step; 0 where bytes are not counted.
        rate_now: bytes or examples a second of the last 30 s; None where it is not known.
        rate_mean: bytes or examples a second since the step began in this driver; None where it is
            not known.
        seconds_left: seconds until the step is done at its mean rate; None where it is not known.
        num_retried: number of tries beyond the first.
        num_workers: number of workers at work.
        workers: names of the workers at work, host/process; of a large pool the first.
        hosts: hosts of the workers at work; of a large pool the first.
        slowest: unit of this step that took longest; None where it is not known.
        num_examples: examples done; 0 where they are not counted.
        total_examples: examples of the whole step; 0 where they are not counted.
    """

    run: str
    owner: str
    written: float
    step: str
    done: int
    total: int
    num_bytes: int
    total_bytes: int
    rate_now: float | None
    rate_mean: float | None
    seconds_left: float | None
    num_retried: int
    num_workers: int
    workers: tuple[str, ...]
    hosts: tuple[str, ...]
    slowest: SlowUnit | None
    num_examples: int = 0
    total_examples: int = 0


@contextmanager
def kept_progress(
    store: Store,
    lease: Lease,
    run: str,
    say: Say,
    *,
    every_seconds: float = PATIENCE.note,
    clock: Callable[[], float] = time.monotonic,
) -> Iterator[Say]:
    """A `say` that passes on what it hears and keeps the newest of it in storage, for `status`.

    Costs one small put in `every_seconds`, on a thread of its own: a store that is slow or refuses
    delays and fails nothing. Writes nothing before the first `every_seconds`, after the block, or
    once the lease is lost.

    Args:
        store: store of the output.
        lease: lease that this driver holds.
        run: name of the run with attempt.
        say: receives everything that is passed on.
        every_seconds: seconds between two puts.
        clock: clock in seconds that only goes forward.
    """
    ended = threading.Event()
    latest: list[Course] = []

    def hear(step: str, done: int, total: int, figures: Figures) -> None:
        before = latest[0] if latest else None
        latest[:] = [go_on(before, step, done=done, total=total, figures=figures, now=clock())]
        say.step(step)(done, total, figures)

    def write() -> None:
        while not ended.wait(every_seconds):
            if latest and not lease.is_lost:
                _put(store, _note(latest[0], run, lease.owner))

    thread = threading.Thread(target=write, name="progress", daemon=True)
    thread.start()
    try:
        yield Steps(hear)
    finally:
        ended.set()
        thread.join(timeout=0.5)  # a put that hangs must not hold up the driver


def read_progress(store: Store) -> ProgressNote | None:
    """What a driver said last; None where there is nothing that can be read."""
    try:
        return from_json(ProgressNote, store.read(PROGRESS_KEY))
    except (NotFoundError, ManifestError):
        return None


def _note(course: Course, run: str, owner: str) -> ProgressNote:
    workers = course.workers
    return ProgressNote(
        run=run,
        owner=owner,
        written=time.time(),
        step=course.step,
        done=course.done,
        total=course.total,
        num_bytes=course.figures.num_bytes,
        total_bytes=course.figures.total_bytes,
        rate_now=course.rate_now,
        rate_mean=course.rate_mean,
        seconds_left=course.seconds_left,
        num_retried=course.figures.num_retried,
        num_workers=len(workers),
        workers=workers[:WORKERS_NAMED],
        hosts=tuple(sorted({host_of(worker) for worker in workers}))[:WORKERS_NAMED],
        slowest=course.slowest,
        num_examples=course.figures.num_examples,
        total_examples=course.figures.total_examples,
    )


def _put(store: Store, note: ProgressNote) -> None:
    try:
        store.put(PROGRESS_KEY, to_json(note), is_durable=False)
    except ClusterError:
        return  # readers see an older note; storage has the ledger
