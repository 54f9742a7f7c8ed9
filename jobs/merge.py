"""The streamed merge: workers read ranges, average, write ranges; the driver completes files."""

import contextlib
import hashlib
import logging
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

from cluster.digests import combine_crc64nvme
from cluster.errors import ClusterError, DigestError, RunnerError, UploadGoneError
from cluster.runner import Done, Resources, Runner, host_of
from cluster.store import Part, Store, open_store
from fusion.health import HealthMode, ModelHealth, describe_model
from fusion.manifest import FileEntry, HostFigures
from fusion.method_specs import METHOD_SPECS
from fusion.plan import MergePlan, MergeUnit
from jobs.commit import MODEL_MANIFEST
from jobs.json_log import SILENT, LogTo, current_log, open_log
from jobs.ledger import Ledger, ShardState, UnitRecord
from jobs.merge_memory import WorkerMemory
from jobs.pace import Figures
from jobs.source_digests import check_sources, find_digests

Progress = Callable[[int, int, Figures], object]
ANYWHERE = Resources()
# Times that one merge looks at the ledger again because another driver was at work on it.
TAKEN_UP_AT_MOST = 10

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class MergeJob:
    """One merge to carry out.

    Attributes:
        plan: what to compute.
        output: URI of the output.
        model: key of the model's folder in it.
        ledger: key of the folder of unit records in it.
        memory: how a worker cuts its reads.
        with_sha256: whether units get a sha256 beside their CRC64NVME.
        device: "cpu" or "cuda", where the arithmetic runs.
        known_digests: source shards whose digest is known; `merge_all` finds them.
        log: how workers log; `merge_all` gives its own.
        health: which blocks are summed. NaN, infinity and magnitude are looked for in all.
    """

    plan: MergePlan
    output: str
    model: str
    ledger: str
    memory: WorkerMemory
    with_sha256: bool = True
    device: str = "cpu"
    known_digests: frozenset[tuple[int, str]] = frozenset()
    health: HealthMode = "sampled"
    log: LogTo = SILENT


@dataclass(frozen=True, slots=True)
class UnitOrder:
    """A unit, the upload its bytes go to, and the name of the shard that it is a part of."""

    unit: MergeUnit
    upload: str
    shard: str = ""

    @property
    def effort(self) -> float:
        """Bytes to write: what its time is compared by."""
        return float(max(1, self.unit.end - self.unit.start))

    @property
    def label(self) -> str:
        """What messages call it."""
        where = f"bytes {self.unit.start:,} to {self.unit.end:,}"
        return f"unit {self.unit.id} ({where} of {self.shard or 'its shard'})"


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
        num_checked: source shards whose bytes arrived as they are stored.
        num_unchecked: source shards that nobody knows a digest of, or that are not read whole.
        health: what the output looks like; None where nothing was computed.
        num_retried: tries of units beyond the first, by this driver.
        hosts: where all units were computed, and how these hosts compute.
        num_workers: processes that computed units, of this driver's.
    """

    files: tuple[FileEntry, ...]
    num_units: int
    num_resumed: int
    read_bytes: int
    written_bytes: int
    seconds: float
    peak_bytes: int
    num_checked: int
    num_unchecked: int
    health: ModelHealth | None
    num_retried: int = 0
    hosts: tuple[HostFigures, ...] = ()
    num_workers: int = 0


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
        _abort_orphans(job, store)
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
    files = _complete(job, store, states, made)
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
        from jobs.merge_worker import MergeWorker

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
        from fusion.probe import digest_arithmetic

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


def _complete(
    job: MergeJob, store: Store, states: Sequence[ShardState], made: Sequence[UnitRecord]
) -> tuple[FileEntry, ...]:
    files = []
    for index, (shard, state) in enumerate(zip(job.plan.shards, states, strict=True)):
        records = dict(state.records)
        records |= {record.number: record for record in made if record.shard == index}
        parts = [records[number].part for number in sorted(records)]
        crc = combine_crc64nvme((part.crc64nvme, part.size) for part in parts)
        if not state.is_complete:
            key = f"{job.model}/{shard.name}"
            upload = store.resume_upload(key, state.upload, size=shard.size)
            stored = upload.complete(parts).crc64nvme
            if stored and stored != crc:
                raise DigestError(
                    f"{store.uri}/{key} is stored with CRC64NVME {stored}, {crc} was written. "
                    "Nothing was published.",
                    "run the same command again; if it stays, the store is damaged",
                )
        files.append(_describe_file(shard.name, shard.size, crc, parts, job.plan.unit_bytes))
    return tuple(files)


def _abort_orphans(job: MergeJob, store: Store) -> None:
    """Forget uploads that a driver began and died before it could note them."""
    sizes = {f"{job.model}/{shard.name}": shard.size for shard in job.plan.shards}
    # All shards are complete. Listing uploads is a right of its own and not offered everywhere:
    # what stays is found by gc.
    with contextlib.suppress(ClusterError):
        for left in list(store.list_uploads(f"{job.model}/")):
            if left.key in sizes:
                store.resume_upload(left.key, left.id, size=sizes[left.key]).abort()


def _describe_file(
    name: str, size: int, crc: str, parts: Sequence[Part], unit_bytes: int
) -> FileEntry:
    units = tuple(part.sha256 for part in parts) if all(part.sha256 for part in parts) else ()
    whole = hashlib.sha256(b"".join(map(bytes.fromhex, units))).hexdigest() if units else ""
    return FileEntry(name, size, whole, unit_bytes, crc64nvme=crc, units=units)
