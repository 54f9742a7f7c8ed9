"""What is wrong with this machine or store, before a night is lost to it."""

import importlib.metadata
import shutil
import sys
import time
from dataclasses import dataclass
from pathlib import Path

import cluster
import fusion
import jobs
from cluster.stores.open_store import open_store
from cluster.stores.probe import probe_store
from cluster.stores.store import Store
from jobs.operate.gc import plan_gc
from jobs.outputs.open_output import describe_promotion, is_safe

LITTLE_FREE_BYTES = 2 << 30
SHIPPED = "shipped with the job"


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that was looked at."""

    what: str
    is_good: bool
    text: str


def examine(output: str | None) -> list[Finding]:
    """Look at versions, imports, disk and, if given, at the store of an output."""
    found = [_python(), _packages(), *_versions(), _disk()]
    if output is not None:
        found += examine_store(output)
    return found


def _python() -> Finding:
    right = sys.version_info >= (3, 11)
    return Finding("python", right, sys.version.split()[0] + ("" if right else ", 3.11 is needed"))


def _packages() -> Finding:
    """Whose `jobs`, `fusion` and `cluster` are imported: the names are common words."""
    places = find_imports()
    # Ray unpacks each of them into a folder of its own.
    is_good = len(places) == 1 or has_travelled()
    return Finding("imports", is_good, f"jobs, fusion, cluster from {', '.join(places)}")


def _versions() -> list[Finding]:
    findings = []
    for name in ("metafuse", "torch", "ray", "transformers", "safetensors", "boto3", "pyarrow"):
        found = find_version(name)
        is_good = bool(found) or (name == "metafuse" and has_travelled())
        findings.append(Finding(name, is_good, found or (SHIPPED if is_good else "not installed")))
    return findings


def find_version(package: str) -> str:
    """The version of a package; "" where it is not installed."""
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return ""


def find_imports() -> list[str]:
    """Folders that our packages are imported from; more than one is a mixture."""
    return sorted({str(Path(str(r.__file__)).parent.parent) for r in (jobs, fusion, cluster)})


def has_travelled() -> bool:
    """Whether our packages came with a job: Ray unpacks such into folders named like this."""
    return any("_ray_pkg_" in place for place in find_imports())


def _disk() -> Finding:
    free = shutil.disk_usage(".").free
    return Finding("disk", free > LITTLE_FREE_BYTES, f"{free / 1e9:.1f} GB free here")


def examine_store(output: str) -> list[Finding]:
    """What the store of an output can do from here, and what lies around in it."""
    store = open_store(output)
    facts = probe_store(store)
    if not facts.is_writable:
        return [Finding("store", is_good=False, text=facts.problem)]
    return [
        Finding("store", is_good=True, text=f"{store.uri} can be written"),
        Finding("promotion", is_safe(facts), describe_promotion(facts)),
        _uploads(store),
    ]


def _uploads(store: Store) -> Finding:
    """Unfinished uploads: they are paid for, and no listing of objects shows them."""
    plan = plan_gc(store, keep=0, older_than_seconds=0.0, now=time.time())
    found = [leftover for leftover in plan.leftovers if leftover.kind == "upload"]
    orphans = [leftover for leftover in found if leftover.run not in plan.abandoned]
    text = f"{len(found)} unfinished"
    if len(found) > len(orphans):
        text += f", {len(found) - len(orphans)} of runs that may be taken up again"
    if orphans:
        total = sum(leftover.num_bytes for leftover in orphans)
        text += f", {len(orphans)} orphans ({total / 1e6:.1f} MB where the store tells): "
        text += ", ".join(leftover.place for leftover in orphans[:5])
        text += f". metafuse gc {store.uri} removes them"
    return Finding("uploads", not orphans, text)
