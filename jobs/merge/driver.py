"""The streamed merge: workers read ranges, average, write ranges; the driver completes files."""

import contextlib
import logging
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

from cluster.errors import DigestError, RunnerError, UploadGoneError
from cluster.stores.open_store import open_store
from cluster.stores.store import Store
from cluster.workers.runner import Done, Resources, Runner, host_of
from fusion.manifests.model import HostFigures
from fusion.plans.health import ModelHealth, describe_model
from fusion.plans.method_specs import METHOD_SPECS
from jobs.console.figures import Figures
from jobs.console.json_log import current_log, open_log
from jobs.merge.complete import abort_orphans, complete_shards
from jobs.merge.job import ANYWHERE, MergeJob, MergeOutcome, Progress, UnitOrder
from jobs.merge.ledger import Ledger, ShardState, UnitRecord
from jobs.merge.source_digests import check_sources, find_digests
from jobs.outputs.keys import MODEL_MANIFEST

# Times that one merge looks at the ledger again because another driver was at work on it.
TAKEN_UP_AT_MOST = 10

log = logging.getLogger(__name__)


def merge_all(
    job: MergeJob,
    *,
    runner: Runner,
    workers: int,
    resources: Resources = ANYWHERE,
    on_progress: Progress | None = None,
    check: Callable[[], None] = lambda: None,
) -> MergeOutcome:
    """Compute what is missing of a merge and make its shards appear.

    Safe to repeat, and to continue after any crash; the output does not depend on who computed
    which unit. Nothing is published: that is `commit_model`.

    Args:
        job: what to merge and where.
        runner: where the workers live.
        workers: how many.
        resources: where they may be; lanes and memory are the job's.
        on_progress: called with (units done, units, figures), first with what was there already.
        check: raises if this driver may no longer write; asked before anything is begun anew,
            completed or thrown away.

    Raises:
        SourceChangedError, NonFiniteError, IntegerError: as a worker found them.
        DigestError: bytes changed on the way from a source or to the output.
    """
    started = time.monotonic()
    store = open_store(job.output)
    check()
    Ledger(store, job.ledger).announce(job.plan)
    known = find_digests(job.plan)
    job = replace(job, known_digests=frozenset(known), log=current_log())
    tries = 0
    while True:
        tries += 1
        try:
            outcome = _merge(job, known, store, runner, workers, resources, on_progress, check)
        except UploadGoneError:
            # Another driver completed it, or wrote a part anew: the ledger tells what is left.
            if tries == TAKEN_UP_AT_MOST:
                raise
            continue
        abort_orphans(job, store)
        return replace(outcome, seconds=time.monotonic() - started)


def _merge(
    job: MergeJob,
    known: Mapping[tuple[int, str], str],
    store: Store,
    runner: Runner,
    workers: int,
    resources: Resources,
    on_progress: Progress | None,
    check: Callable[[], None],
) -> MergeOutcome:
    started = time.monotonic()
    ledger = Ledger(store, job.ledger)
    num_retried = 0
    while True:
        check()
        states = ledger.find_shards(job.plan, store, job.model, check=check)
        resumed = [record for state in states for record in state.records.values()]
        made, retried = _compute(job, states, resumed, runner, workers, resources, on_progress)
        num_retried += retried
        check()
        checked = _check_sources(job, known, ledger, states, resumed, made)
        if checked is not None:
            break
    files = complete_shards(job, store, states, made)
    return MergeOutcome(
        files=files,
        num_units=len(job.plan.units),
        num_resumed=len(resumed),
        read_bytes=sum(record.read_bytes for record in made),
        written_bytes=sum(record.size for record in made),
        seconds=time.monotonic() - started,
        peak_bytes=max((record.peak_bytes for record in [*resumed, *made]), default=0),
        num_checked=checked,
        num_unchecked=sum(len(c.shards) for c in job.plan.request.checkpoints) - checked,
        health=_describe_health(job, [*resumed, *made]),
        num_retried=num_retried,
        hosts=_count_hosts([*resumed, *made]),
        num_workers=len({record.worker for record in made}),
    )


def _count_hosts(records: Sequence[UnitRecord]) -> tuple[HostFigures, ...]:
    counts = Counter((host_of(record.worker), record.arithmetic) for record in records)
    return tuple(HostFigures(host, n, digest) for (host, digest), n in sorted(counts.items()))


@dataclass(frozen=True, slots=True)
class MergeWorkerMaker:
    """Makes a worker of a merge where it runs: torch is loaded there, not in the driver.

    Attributes:
        job: what to merge.
        expected: arithmetic of the units that an earlier driver left, "" where there are none.
    """

    job: MergeJob
    expected: str = ""

    def __call__(self) -> Callable[[UnitOrder], UnitRecord]:
        """A worker, unless this host computes otherwise than what is finished.

        Raises:
            RunnerError: its units would not fit to the others'.
        """
        from jobs.merge.worker import MergeWorker

        if self.job.log.is_json:
            open_log(self.job.log)
        found = self.fingerprint()
        if self.expected and found != self.expected:
            raise RunnerError(
                f"this host computes otherwise ({found[:12]}) than the host of the units that are "
                f"finished ({self.expected[:12]}). Nothing was published",
                "go on with a host of the same kind of processor and version of torch, or begin "
                "another run",
            )
        return MergeWorker(self.job)

    def fingerprint(self) -> str:
        """How this host computes."""
        from fusion.methods.probe import digest_arithmetic

        return digest_arithmetic(self.job.device)


def _compute(
    job: MergeJob,
    states: Sequence[ShardState],
    resumed: Sequence[UnitRecord],
    runner: Runner,
    workers: int,
    resources: Resources,
    on_progress: Progress | None,
) -> tuple[list[UnitRecord], int]:
    """Records of the units that were missing, and the tries that it took beyond the first."""
    units = job.plan.units
    orders = [
        UnitOrder(unit, states[unit.shard].upload, job.plan.shards[unit.shard].name)
        for unit in units
        if unit.number not in states[unit.shard].records
    ]
    total_bytes = sum(shard.size for shard in job.plan.shards)
    at = Figures(sum(record.size for record in resumed), total_bytes)
    tell = on_progress or (lambda *_: None)
    tell(len(resumed), len(units), at)
    made: list[UnitRecord] = []
    expected = next((record.arithmetic for record in resumed if record.arithmetic), "")
    # The scheduler is told nothing of memory: workers keep to it by themselves.
    resources = replace(resources, lanes=job.memory.lanes, resident_bytes=job.memory.total_bytes)
    results = runner.run_pool(
        MergeWorkerMaker(job, expected), orders, resources=resources, workers=workers
    )
    with contextlib.closing(results):
        for done in results:
            if done.error is not None:
                raise done.error
            assert done.value is not None
            made.append(done.value)
            at = _after(at, done)
            tell(len(resumed) + len(made), len(units), at)
    return made, at.num_retried


def _after(at: Figures, done: Done[UnitRecord]) -> Figures:
    record = done.value
    assert record is not None
    tries = {"tries": done.tries, "worker": record.worker}
    log.info("unit done", extra={"unit": record.unit, "bytes": record.size, **tries})
    return Figures(
        num_bytes=at.num_bytes + record.size,
        total_bytes=at.total_bytes,
        num_retried=at.num_retried + done.tries - 1,
        unit=record.unit,
        seconds=record.seconds,
        worker=record.worker,
    )


def _check_sources(
    job: MergeJob,
    known: Mapping[tuple[int, str], str],
    ledger: Ledger,
    states: Sequence[ShardState],
    resumed: Sequence[UnitRecord],
    made: Sequence[UnitRecord],
) -> int | None:
    """How many source shards were compared; after a difference nothing computed is trusted.

    None where the damage may be in what an earlier driver read: compute once more.
    """
    try:
        return len(check_sources(job.plan, known, [*resumed, *made]))
    except DigestError:
        store = open_store(job.output)
        if any(store.list(f"{job.model}/{MODEL_MANIFEST}")):
            raise  # it was checked when it was committed, and may be promoted: nothing of it goes
        for shard, state in zip(job.plan.shards, states, strict=True):
            key = f"{job.model}/{shard.name}"
            store.resume_upload(key, state.upload, size=shard.size).abort()
            if state.is_complete:
                store.delete(key)
        ledger.forget()
        if not resumed:
            raise
        return None


def _describe_health(job: MergeJob, records: Sequence[UnitRecord]) -> ModelHealth | None:
    request = job.plan.request
    sources = {
        tensor.name: [source.owner for source in tensor.sources]
        for tensor in request.tensors
        if tensor.method in METHOD_SPECS
    }
    # The bases of adapters come after the candidates, and own nothing.
    count = 1 + max((owner for owners in sources.values() for owner in owners), default=-1)
    return describe_model(
        (piece for record in records for piece in record.health),
        candidates=[checkpoint.name for checkpoint in request.checkpoints[:count]],
        sources=sources,
        mode=job.health,
    )
