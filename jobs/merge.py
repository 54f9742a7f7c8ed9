"""The streamed merge: workers read ranges, average, write ranges; the driver completes files."""

import hashlib
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

from cluster.runner import Resources, Runner
from cluster.store import Store, open_store
from fusion.manifest import FileEntry
from fusion.plan import MergePlan, MergeUnit
from jobs.ledger import Ledger, ShardState, UnitRecord

Progress = Callable[[int, int, int], None]


@dataclass(frozen=True, slots=True)
class MergeJob:
    """One merge to carry out.

    Attributes:
        plan: what to compute.
        output: URI of the output.
        model: key of the model's folder in it.
        ledger: key of the folder of unit records in it.
        memory_bytes: what a worker may use; chunks shrink to fit.
        device: "cpu" or "cuda", where the arithmetic runs.
    """

    plan: MergePlan
    output: str
    model: str
    ledger: str
    memory_bytes: int = 1 << 30
    device: str = "cpu"


@dataclass(frozen=True, slots=True)
class UnitOrder:
    """A unit and the upload its bytes go to."""

    unit: MergeUnit
    upload: str


@dataclass(frozen=True, slots=True)
class MergeOutcome:
    """What a merge left.

    Attributes:
        files: the shards, with the digest of their units' digests.
        num_units: of the plan.
        num_resumed: of those, done by an earlier driver.
        read_bytes: by this driver's workers.
        written_bytes: by this driver's workers.
        seconds: wall time.
        peak_bytes: largest resident memory of any worker.
    """

    files: tuple[FileEntry, ...]
    num_units: int
    num_resumed: int
    read_bytes: int
    written_bytes: int
    seconds: float
    peak_bytes: int


def merge_all(
    job: MergeJob,
    *,
    runner: Runner,
    workers: int,
    on_progress: Progress | None = None,
) -> MergeOutcome:
    """Compute what is missing of a merge and make its shards appear.

    Safe to repeat, and to continue after any crash; the output does not depend on who computed
    which unit. Nothing is published: that is `commit_model`.

    Args:
        job: what to merge and where.
        runner: where the workers live.
        workers: how many.
        on_progress: called with (units done, units, bytes done).

    Raises:
        SourceChangedError, NonFiniteError, IntegerError: as a worker found them.
    """
    started = time.monotonic()
    store = open_store(job.output)
    ledger = Ledger(store, job.ledger)
    states = ledger.find_shards(job.plan, store, job.model)
    resumed = [record for state in states for record in state.records.values()]
    made = _compute(job, states, resumed, runner, workers, on_progress)
    files = _complete(job, store, states, made)
    return MergeOutcome(
        files=files,
        num_units=len(job.plan.units),
        num_resumed=len(resumed),
        read_bytes=sum(record.read_bytes for record in made),
        written_bytes=sum(record.size for record in made),
        seconds=time.monotonic() - started,
        peak_bytes=max((record.peak_bytes for record in [*resumed, *made]), default=0),
    )


def make_merge_worker(job: MergeJob) -> Callable[[UnitOrder], UnitRecord]:
    """A worker of a merge, made where it runs: torch is loaded there, not in the driver."""
    from jobs.merge_worker import MergeWorker

    return MergeWorker(job)


def _compute(
    job: MergeJob,
    states: Sequence[ShardState],
    resumed: Sequence[UnitRecord],
    runner: Runner,
    workers: int,
    on_progress: Progress | None,
) -> list[UnitRecord]:
    units = job.plan.units
    orders = [
        UnitOrder(unit, states[unit.shard].upload)
        for unit in units
        if unit.number not in states[unit.shard].records
    ]
    num_done, bytes_done = len(resumed), sum(record.size for record in resumed)
    made: list[UnitRecord] = []
    # The scheduler is told nothing of memory: workers keep to it by themselves.
    results = runner.run_pool(
        partial(make_merge_worker, job), orders, resources=Resources(), workers=workers
    )
    for done in results:
        if done.error is not None:
            raise done.error
        assert done.value is not None
        made.append(done.value)
        num_done, bytes_done = num_done + 1, bytes_done + done.value.size
        if on_progress is not None:
            on_progress(num_done, len(units), bytes_done)
    return made


def _complete(
    job: MergeJob, store: Store, states: Sequence[ShardState], made: Sequence[UnitRecord]
) -> tuple[FileEntry, ...]:
    files = []
    for index, (shard, state) in enumerate(zip(job.plan.shards, states, strict=True)):
        records = dict(state.records)
        records |= {
            record.number: record
            for record in made
            if int(record.unit.partition("-")[0]) == index + 1
        }
        parts = [records[number].part for number in sorted(records)]
        if not state.is_complete:
            upload = store.resume_upload(f"{job.model}/{shard.name}", state.upload, size=shard.size)
            upload.complete(parts)
        digests = b"".join(bytes.fromhex(part.sha256) for part in parts)
        files.append(
            FileEntry(
                shard.name, shard.size, hashlib.sha256(digests).hexdigest(), job.plan.unit_bytes
            )
        )
    return tuple(files)
