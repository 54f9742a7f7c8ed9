"""What runs left behind that is no longer needed, and its removal.

Never touched: what the pointer or its history within `keep` names, what a hold may need, runs that
are alive or may be taken up again, reports, manifests and the scores in the folders of runs. Age
alone removes nothing but the cache of scores, which only saves computing them again; it stays whole
while any run may still read it.

A model is removed in an order that no promotion can cross: the run is marked, then the pointer is
swapped for one with the next epoch, then files go. A promotion reads the pointer before the mark,
so it either sees the mark or fails its swap.
"""

import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Literal

from cluster.stores.store import ObjectInfo, Store, UploadInfo
from jobs.exits import INTERRUPTED
from jobs.outputs.keys import LEASE_KEY, MODEL_MANIFEST, REMOVED_KEY
from jobs.outputs.lease import is_gone, read_lease
from jobs.outputs.pointer import (
    SeenPointer,
    describe_change,
    read_history,
    read_pointer,
    swap_pointer,
)
from jobs.outputs.run_folder import RunFolder
from jobs.outputs.runs import Outcome, read_outcome, write_outcome

LeftoverKind = Literal["upload", "baseline", "ledger", "model", "probe", "score"]
FOLDER = re.compile(r"runs/([^/]+)/((model|baseline|ledger)-[^/]+)/")
PROBE = re.compile(r"probe-[0-9a-f]{32}")
# A lease beats every 5 s; one that was silent for so long has no living holder, despite clock skew.
DEAD_LEASE_SECONDS = 3600.0


@dataclass(frozen=True, slots=True)
class Leftover:
    """Something to remove.

    Attributes:
        kind: kind of the leftover.
        run: name of the run that left it; "" for none.
        place: key of a folder, an object or an upload.
        reason: why it is no longer needed.
        num_bytes: bytes that the leftover takes.
        keys: keys of the objects to delete, in order; () for an upload.
        upload: upload to abort; None where the leftover is objects.
    """

    kind: LeftoverKind
    run: str
    place: str
    reason: str
    num_bytes: int
    keys: tuple[str, ...] = ()
    upload: UploadInfo | None = None


@dataclass(frozen=True, slots=True)
class GcPlan:
    """What would be removed.

    Attributes:
        leftovers: what would be removed, by run, then kind.
        abandoned: names of unfinished runs that gc will end as abandoned.
        kept: (run, why its model stays) of each finished run whose model stays.
    """

    leftovers: tuple[Leftover, ...]
    abandoned: tuple[str, ...]
    kept: tuple[tuple[str, str], ...]

    @property
    def num_bytes(self) -> int:
        """That would be freed."""
        return sum(leftover.num_bytes for leftover in self.leftovers)


@dataclass
class _Run:
    """What lies in one run's folder."""

    newest: float = 0.0
    has_plan: bool = False
    has_outcome: bool = False
    folders: dict[str, list[ObjectInfo]] = field(default_factory=dict)
    uploads: list[UploadInfo] = field(default_factory=list)


def plan_gc(store: Store, *, keep: int, older_than_seconds: float, now: float) -> GcPlan:
    """Look at an output and decide what is no longer needed; nothing is written.

    Args:
        store: store of the output.
        keep: number of models promoted before the current one that stay.
        older_than_seconds: age in seconds; a run that was touched since then is left alone.
        now: current time in seconds since 1970.
    """
    return _plan(store, read_pointer(store), keep, older_than_seconds, now)


def collect(
    store: Store,
    *,
    keep: int,
    older_than_seconds: float,
    now: float,
    reason: str,
    on_removed: Callable[[Leftover], None] = lambda _: None,
) -> GcPlan:
    """Remove what is no longer needed; returns what was removed. Safe to repeat after any crash."""
    while True:
        seen = read_pointer(store)
        plan = _plan(store, seen, keep, older_than_seconds, now)
        for run in plan.abandoned:
            ended = Outcome("abandoned", f"gc: not touched for long ({reason})", INTERRUPTED)
            if write_outcome(RunFolder(store, run), ended).result != ended.result:
                break  # its driver lives after all: look again
        else:
            models = [leftover for leftover in plan.leftovers if leftover.kind == "model"]
            if not models or (seen is not None and _fence(store, seen, models, reason)):
                break
    removed = []
    for leftover in plan.leftovers:
        # A run that has begun meanwhile may be reading the cache.
        if leftover.kind == "score" and _has_live_lease(store, now):
            continue
        _remove(store, leftover)
        on_removed(leftover)
        removed.append(leftover)
    return replace(plan, leftovers=tuple(removed))


def _fence(store: Store, seen: SeenPointer, models: list[Leftover], reason: str) -> bool:
    """Mark runs whose models go, and make every swap fail that was begun before; False if lost."""
    change = describe_change("gc", reason)
    keys = [f"runs/{leftover.run}/{REMOVED_KEY}" for leftover in models]
    text = f"by gc, {change.by}, {change.at}: {reason}\n".encode()
    for key in keys:
        store.put(key, text)
    pointer = replace(seen.pointer, epoch=seen.pointer.epoch + 1, changed=change)
    if swap_pointer(store, seen, pointer):
        return True
    for key in keys:
        store.delete(key)
    return False


def _remove(store: Store, leftover: Leftover) -> None:
    if leftover.upload is not None:
        store.resume_upload(leftover.upload.key, leftover.upload.id, size=0).abort()
    for key in leftover.keys:
        store.delete(key)


def _plan(
    store: Store,
    seen: SeenPointer | None,
    keep: int,
    older_than_seconds: float,
    now: float,
) -> GcPlan:
    runs = _survey(store)
    needed = _find_needed(store, seen, keep, runs)
    is_live = _has_live_lease(store, now)
    leftovers = [
        Leftover("probe", "", entry.key, "left by a probe", entry.size, (entry.key,))
        for entry in store.list("probe-")
        if PROBE.fullmatch(entry.key) and now - entry.modified > older_than_seconds
    ]
    abandoned, kept = [], []
    for name, run in sorted(runs.items()):
        if not run.has_plan or now - run.newest <= older_than_seconds:
            continue
        if not run.has_outcome:
            if is_live:
                continue
            abandoned.append(name)
        why = needed.get(name, "" if seen else "nothing is promoted yet, so every model stays")
        if why and any(folder.startswith("model-") for folder in run.folders):
            kept.append((name, why))
        leftovers += _leftovers_of(name, run, with_models=not why)
    is_begun = any(
        run.has_plan and not run.has_outcome and name not in abandoned for name, run in runs.items()
    )
    if not is_live and not is_begun:
        leftovers += _cached_scores(store, older_than_seconds, now)
    return GcPlan(tuple(leftovers), tuple(abandoned), tuple(kept))


def _leftovers_of(name: str, run: _Run, *, with_models: bool) -> Iterator[Leftover]:
    ended = "of a finished run" if run.has_outcome else "of a run that nobody took up again"
    for folder, entries in sorted(run.folders.items()):
        kind: LeftoverKind = folder.partition("-")[0]  # type: ignore[assignment]  # by FOLDER
        if kind == "model" and not with_models:
            continue
        # The manifest first: what is left of a model never looks whole.
        keys = sorted((e.key for e in entries), key=lambda k: (not k.endswith(MODEL_MANIFEST), k))
        size = sum(entry.size for entry in entries)
        yield Leftover(kind, name, f"runs/{name}/{folder}", ended, size, tuple(keys))
    for upload in run.uploads:
        yield Leftover("upload", name, upload.key, ended, upload.size, (), upload)


def _cached_scores(store: Store, older_than_seconds: float, now: float) -> Iterator[Leftover]:
    reason = "cached, and also in the folders of its runs"
    for entry in store.list("scores/"):
        if entry.key.endswith(".parquet") and now - entry.modified > older_than_seconds:
            yield Leftover("score", "", entry.key, reason, entry.size, (entry.key,))


def _survey(store: Store) -> Mapping[str, _Run]:
    """All runs, by one listing of objects and one of uploads."""
    runs: dict[str, _Run] = {}
    for entry in store.list("runs/"):
        _, name, rest = entry.key.split("/", 2) if entry.key.count("/") > 1 else ("", "", "")
        run = runs.setdefault(name, _Run())
        run.newest = max(run.newest, entry.modified)
        run.has_plan |= rest == "plan.json"
        run.has_outcome |= rest == "outcome.json"
        match = FOLDER.match(entry.key)
        if match:
            run.folders.setdefault(match[2], []).append(entry)
    for upload in store.list_uploads("runs/"):
        match = FOLDER.match(upload.key)
        if match and match[1] in runs:
            runs[match[1]].uploads.append(upload)
            runs[match[1]].newest = max(runs[match[1]].newest, upload.started)
    return runs


def _find_needed(
    store: Store, seen: SeenPointer | None, keep: int, runs: Mapping[str, _Run]
) -> Mapping[str, str]:
    """Runs whose models stay, and why."""
    needed: dict[str, str] = {}
    if seen is None:
        return needed
    is_held = bool(seen.pointer.hold)
    in_hold = is_held
    for pointer in read_history(store, seen):
        if pointer.run not in needed:
            if len(needed) > keep and not in_hold:
                break
            needed[pointer.run] = "promoted" if pointer.run == seen.pointer.run else "to go back to"
        in_hold &= bool(pointer.hold)  # the one that stood before the hold is the last it needs
    if is_held:
        for name, run in runs.items():
            if name not in needed and run.has_outcome:
                outcome = read_outcome(RunFolder(store, name))
                if outcome is not None and outcome.result == "hold":
                    needed[name] = "passed the gate while promotion was on hold"
    return needed


def _has_live_lease(store: Store, now: float) -> bool:
    lease = read_lease(store)
    if lease is None or lease[0].released or is_gone(lease[0]):
        return False
    return now - store.head(LEASE_KEY).modified < DEAD_LEASE_SECONDS
