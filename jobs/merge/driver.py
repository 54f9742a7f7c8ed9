"""The streamed merge: workers read ranges, average, write ranges; the driver completes files."""

import contextlib
import logging
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from cluster.errors import DigestError, RunnerError, UploadGoneError
from cluster.stores.open_store import open_store
from cluster.stores.store import Store
from cluster.workers.hands import Hands
from cluster.workers.runner import Done, host_of
from fusion.manifests.model import HostFigures
from fusion.plans.health import ModelHealth, describe_model
from fusion.plans.method_specs import METHOD_SPECS
from jobs.console.figures import Figures, Tell, tell_nobody
from jobs.console.json_log import current_log, open_log
from jobs.merge.complete import abort_orphans, complete_shards
from jobs.merge.job import MergeJob, MergeOutcome, UnitOrder
from jobs.merge.ledger import Ledger, ShardState, UnitRecord
from jobs.merge.source_digests import check_sources, find_digests
from jobs.outputs.keys import MODEL_MANIFEST

# Times that one merge looks at the ledger again because another driver was at work on it.
TAKEN_UP_AT_MOST = 10

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Merging:
    """A merge as its driver carries it out.

    Attributes:
        job: what to merge and where, as workers know it.
        store: store of the output, as the driver writes to it.
        hands: workers that compute.
        tell: called with the progress.
    """

    job: MergeJob
    store: Store
    hands: Hands
    tell: Tell

    @property
    def ledger(self) -> Ledger:
        """Its unit records."""
        return Ledger(self.store, self.job.ledger)


def merge_all(
    job: MergeJob, hands: Hands, *, store: Store | None = None, tell: Tell = tell_nobody
) -> MergeOutcome:
    """Compute what is missing of a merge and make its shards appear.

    Safe to repeat, and to continue after any crash; the output does not depend on who computed
    which unit. Nothing is published: that is `commit_model`.

    Args:
        job: what to merge and where.
        hands: workers that compute; `job.memory` sets the lanes and memory of their resources.
        store: store that the driver writes to, fenced where a lease is held; None opens
            `job.output`.
        tell: called with (units done, units, figures), first with the units that were there
            already.

    Raises:
        SourceChangedError, NonFiniteError, IntegerError: a worker found the error.
        DigestError: bytes changed on the way from a source or to the output.
    """
    started = time.monotonic()
    job = replace(job, known_crcs=find_digests(job.plan), log=current_log())
    merging = Merging(job, store or open_store(job.output), hands, tell)
    merging.ledger.announce(job.plan)
    tries = 0
    while True:
        tries += 1
        try:
            outcome = _merge(merging)
        except UploadGoneError:
            # Another driver completed it, or wrote a part anew: the ledger tells what is left.
            if tries == TAKEN_UP_AT_MOST:
                raise
            continue
        abort_orphans(job, merging.store)
        return replace(outcome, seconds=time.monotonic() - started)


def _merge(merging: Merging) -> MergeOutcome:
    started = time.monotonic()
    job = merging.job
    num_retried = 0
    while True:
        states = merging.ledger.find_shards(job.plan, merging.store, job.model)
        resumed = [record for state in states for record in state.records.values()]
        made, retried = _compute(merging, states, resumed)
        num_retried += retried
        checked = _check_sources(merging, states, resumed, made)
        if checked is not None:
            break
    files = complete_shards(job, merging.store, states, made)
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
        expected: arithmetic digest of the units that an earlier driver left; "" where there are
            none.
    """

    job: MergeJob
    expected: str = ""

    def __call__(self) -> Callable[[UnitOrder], UnitRecord]:
        """A worker, unless this host computes otherwise than those of the finished units.

        Raises:
            RunnerError: the host computes otherwise than the hosts of the finished units.
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
    merging: Merging, states: Sequence[ShardState], resumed: Sequence[UnitRecord]
) -> tuple[list[UnitRecord], int]:
    """Records of the units that were missing, and the tries that it took beyond the first."""
    job, hands = merging.job, merging.hands
    units = job.plan.units
    orders = [
        UnitOrder(unit, states[unit.shard].upload, job.plan.shards[unit.shard].name)
        for unit in units
        if unit.number not in states[unit.shard].records
    ]
    total_bytes = sum(shard.size for shard in job.plan.shards)
    at = Figures(sum(record.size for record in resumed), total_bytes)
    merging.tell(len(resumed), len(units), at)
    made: list[UnitRecord] = []
    expected = next((record.arithmetic for record in resumed if record.arithmetic), "")
    # The scheduler is told nothing of memory: workers keep to it by themselves.
    resources = replace(
        hands.resources, lanes=job.memory.lanes, resident_bytes=job.memory.total_bytes
    )
    results = hands.runner.run_pool(
        MergeWorkerMaker(job, expected), orders, resources=resources, workers=hands.workers
    )
    with contextlib.closing(results):
        for done in results:
            if done.error is not None:
                raise done.error
            assert done.value is not None
            made.append(done.value)
            at = _after(at, done)
            merging.tell(len(resumed) + len(made), len(units), at)
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
    merging: Merging,
    states: Sequence[ShardState],
    resumed: Sequence[UnitRecord],
    made: Sequence[UnitRecord],
) -> int | None:
    """How many source shards were compared; after a difference nothing computed is trusted.

    None where the damage may be in what an earlier driver read: compute once more.
    """
    job, store = merging.job, merging.store
    try:
        return len(check_sources(job.plan, job.known_crcs, [*resumed, *made]))
    except DigestError:
        if any(store.list(f"{job.model}/{MODEL_MANIFEST}")):
            raise  # it was checked when it was committed, and may be promoted: nothing of it goes
        for shard, state in zip(job.plan.shards, states, strict=True):
            key = f"{job.model}/{shard.name}"
            store.resume_upload(key, state.upload, size=shard.size).abort()
            if state.is_complete:
                store.delete(key)
        merging.ledger.forget()
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
