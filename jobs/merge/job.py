"""What a merge is, what a unit of it is, what it leaves."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from cluster.digests import KnownCrc
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
        model: key of the model's folder in the output.
        ledger: key of the folder of unit records in the output.
        memory: how a worker cuts its reads.
        with_sha256: whether units get a sha256 beside their CRC64NVME.
        device: device of the arithmetic: "cpu" or "cuda".
        known_crcs: what is known of source shards, by (checkpoint index, name); `merge_all` finds
            it.
        log: how workers log; `merge_all` sets it to the driver's own.
        patience: how long to wait for a store that is away.
        health: which blocks are summed for cosines and norms. All blocks are searched for NaN,
            infinity and magnitude.
    """

    plan: MergePlan
    output: str
    model: str
    ledger: str
    memory: WorkerMemory
    with_sha256: bool = True
    device: str = "cpu"
    known_crcs: Mapping[tuple[int, str], KnownCrc] = field(default_factory=dict)
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
        """Bytes to write, by which the times of units are compared."""
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
        files: output shards, with the digest of their units' digests.
        num_units: number of units of the plan.
        num_resumed: number of units that an earlier driver had done.
        read_bytes: bytes that this driver's workers read.
        written_bytes: bytes that this driver's workers wrote.
        seconds: wall time of the merge in seconds.
        peak_bytes: largest resident memory of any worker, in bytes.
        num_checked: number of source shards whose bytes arrived as they are stored.
        num_unchecked: number of source shards without a known digest, or not read whole.
        health: what the output looks like; None where nothing was computed.
        num_retried: number of tries of units beyond the first, by this driver.
        hosts: hosts where all units were computed, each with the digest of its arithmetic.
        num_workers: number of this driver's processes that computed units.
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
