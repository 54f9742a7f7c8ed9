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
from cluster.probe import probe_store
from cluster.store import Store, open_store
from jobs.gc import plan_gc
from jobs.output_store import describe_promotion, is_safe

LITTLE_FREE_BYTES = 2 << 30


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
        found += _store(output)
    return found


def _python() -> Finding:
    right = sys.version_info >= (3, 11)
    return Finding("python", right, sys.version.split()[0] + ("" if right else ", 3.11 is needed"))


def _packages() -> Finding:
    """Whose `jobs`, `fusion` and `cluster` are imported: the names are common words."""
    places = {str(Path(str(room.__file__)).parent.parent) for room in (jobs, fusion, cluster)}
    return Finding("imports", len(places) == 1, f"jobs, fusion, cluster from {', '.join(places)}")


def _versions() -> list[Finding]:
    findings = []
    for name in ("metafuse", "torch", "ray", "transformers", "safetensors", "boto3", "pyarrow"):
        try:
            findings.append(Finding(name, True, importlib.metadata.version(name)))  # noqa: FBT003  # a field
        except importlib.metadata.PackageNotFoundError:
            findings.append(Finding(name, False, "not installed"))  # noqa: FBT003  # a field
    return findings


def _disk() -> Finding:
    free = shutil.disk_usage(".").free
    return Finding("disk", free > LITTLE_FREE_BYTES, f"{free / 1e9:.1f} GB free here")


def _store(output: str) -> list[Finding]:
    store = open_store(output)
    facts = probe_store(store)
    if not facts.is_writable:
        return [Finding("store", False, facts.problem)]  # noqa: FBT003  # a field
    return [
        Finding("store", True, f"{store.uri} can be written"),  # noqa: FBT003  # a field
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
