"""What a merge is, what a unit of it is, what it leaves."""

from dataclasses import dataclass

from cluster.workers.patience import PATIENCE, Patience
from fusion.manifests.model import FileEntry, HostFigures
from fusion.plans.health import HealthMode, ModelHealth
from fusion.plans.plan import MergePlan, MergeUnit
from jobs.console.json_log import SILENT, LogTo
from jobs.merge.memory import WorkerMemory


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
        patience: with a store that is away.
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
    patience: Patience = PATIENCE


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
