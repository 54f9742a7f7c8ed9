"""What is wrong with this machine or store, before a night is lost to it."""

import importlib.metadata
import shutil
import sys
from dataclasses import dataclass
from pathlib import Path

import cluster
import fusion
import jobs
from cluster.probe import probe_store
from cluster.store import open_store

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
    safe = facts.has_conditional_create and facts.has_conditional_update
    text = (
        "conditional writes work" if safe else "conditional writes are ignored: no safe promotion"
    )
    return [
        Finding("store", True, f"{store.uri} can be written"),  # noqa: FBT003  # a field
        Finding("promotion", safe, text),
    ]
