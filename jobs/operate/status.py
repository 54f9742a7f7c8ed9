"""Where an output stands, from what is stored alone: pointer, hold, lease, and how far a run is."""

import re
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from itertools import islice
from typing import Literal

from cluster.errors import NotFoundError
from cluster.stores.store import ObjectInfo, Store
from cluster.workers.patience import PATIENCE
from fusion.manifests.pointer import Pointer
from jobs.errors import NoCandidatesError, PointerError
from jobs.merge.ledger import UNITS_KEY, PlannedUnits
from jobs.merge.ledger_pace import MergePace, find_pace
from jobs.outputs.judgements import find_judgements
from jobs.outputs.keys import MODEL_MANIFEST, POINTER_KEY
from jobs.outputs.lease import Holder, is_gone, read_lease
from jobs.outputs.pointer import is_fresh, read_history
from jobs.outputs.progress_note import ProgressNote, read_progress
from jobs.outputs.run_folder import RunFolder
from jobs.outputs.runs import Outcome, RunPlan, read_outcome, read_plan
from jobs.outputs.stored import read_stored
from jobs.outputs.verify import read_removed

LeaseState = Literal["free", "alive", "silent", "gone"]
UNIT = re.compile(r"[0-9]{5}-[0-9]{5}\.json")
NUM_SHOWN = 5


@dataclass(frozen=True, slots=True)
class LeaseStatus:
    """Who holds the lease.

    Attributes:
        state: free (no holder), alive (its heartbeat advanced while we watched), silent (its
            heartbeat did not advance), gone (the holder was a process on this host and has ended).
        holder: holder of the lease; None where there never was one.
    """

    state: LeaseState
    holder: Holder | None


@dataclass(frozen=True, slots=True)
class RunStatus:
    """How far a run is. Zeros where a step has not begun.

    Attributes:
        run: name of the run with attempt.
        step: found, evaluated, merging, committed, judged, or how it ended.
        num_candidates: number of candidates that the plan froze.
        num_skipped: number of candidates that were found but are not usable.
        num_scored: number of candidates that have a score on the rank slice.
        num_units: number of units of the merge.
        num_done: number of units of the merge that are done.
        merge_bytes: bytes of the merge.
        done_bytes: bytes of the merge that are done.
        model: key of the committed model's folder; "" before the commit.
        verdict: decision of the gate; "" where the run was not judged.
        sentence: sentence of the gate's verdict; "" where the run was not judged.
        outcome: outcome of the run; None while it is not finished.
        removed: who removed the run's model, when and why; "" while it was not removed.
        pace: pace of a merge that is not committed yet, from its unit records; None where there are
            none.
    """

    run: str
    step: str
    num_candidates: int
    num_skipped: int
    num_scored: int
    num_units: int
    num_done: int
    merge_bytes: int
    done_bytes: int
    model: str
    verdict: str
    sentence: str
    outcome: Outcome | None
    removed: str = ""
    pace: MergePace | None = None


@dataclass(frozen=True, slots=True)
class LostPointer:
    """A pointer that was removed: what the verbs of the operator say of it."""

    code: str
    message: str
    hint: str


@dataclass(frozen=True, slots=True)
class OutputStatus:
    """An output.

    Attributes:
        pointer: the current pointer; None where nothing was promoted, or where the pointer is lost.
        lost: error of verbs that need a pointer, if `latest.json` is gone while its log is there;
            else None.
        history: a few pointers before the current one, newest first.
        lease: who holds the lease of the output.
        runs: names of all runs, in order of date and attempt.
        run: status of the run that was asked for, else of the last run; None where there is no run.
        progress: what the driver that holds the lease says of `run`; None where it says nothing.
    """

    pointer: Pointer | None
    history: tuple[Pointer, ...]
    lease: LeaseStatus
    runs: tuple[str, ...]
    run: RunStatus | None
    progress: ProgressNote | None = None
    lost: LostPointer | None = None


def look(
    store: Store,
    run: str | None,
    *,
    watch_seconds: float,
    sleep: Callable[[float], None] = time.sleep,
    now: Callable[[], float] = time.time,
) -> OutputStatus:
    """Read the state of an output; writes nothing, and starts nothing.

    Args:
        store: store of the output.
        run: name of the run to tell about; None for the last one.
        watch_seconds: longest time in seconds to watch a heartbeat; below 5 s a live one may be
            missed.
        sleep: waits for a number of seconds.
        now: gives the current time in seconds since 1970.

    Raises:
        NoCandidatesError: there is no such run.
    """
    names = find_runs(store)
    if run is not None and run not in names:
        raise NoCandidatesError(
            f"{store.uri} has no run {run!r}",
            f"its last runs: {', '.join(names[-NUM_SHOWN:]) or 'none'}",
        )
    wanted = run or (names[-1] if names else None)
    lease = _watch(store, watch_seconds, sleep)
    described = describe_run(store, wanted, now=now()) if wanted else None
    # After the outcome, which is written after the pointer.
    pointers, lost = _find_pointers(store, described)
    return OutputStatus(
        pointer=pointers[0] if pointers else None,
        history=pointers[1:],
        lease=lease,
        runs=names,
        run=described,
        progress=_find_progress(store, described, lease),
        lost=lost,
    )


def find_runs(store: Store) -> tuple[str, ...]:
    """Names of all runs, by date, then attempt."""
    plans = re.compile(r"runs/([^/]+)/plan\.json")
    found = [match[1] for entry in store.list("runs/") if (match := plans.fullmatch(entry.key))]

    def order(name: str) -> tuple[str, int]:
        stem, _, attempt = name.partition(".")
        return stem, int(attempt) if attempt.isdigit() else 1

    return tuple(sorted(found, key=order))


def describe_run(store: Store, run: str, *, now: float | None = None) -> RunStatus:
    """How far one run is.

    Args:
        store: store of the output.
        run: name of the run with attempt.
        now: current time in seconds since 1970, to tell the pace of a merge; None leaves the pace
            out.

    Raises:
        NoCandidatesError: there is no such run.
    """
    plan = read_plan(RunFolder(store, run))
    if plan is None:
        raise NoCandidatesError(f"{store.uri} has no run {run!r}")
    outcome = read_outcome(RunFolder(store, run))
    records, planned = _merged(store, run)
    model = _committed(store, run)
    judgements = list(find_judgements(RunFolder(store, run)))
    verdict = judgements[-1].report.verdict if judgements else None
    num_scored = _count_scored(store, plan)
    reached = {
        "evaluating": num_scored > 0,
        "merging": planned is not None,
        "committed": bool(model),
        "judged": verdict is not None,
    }
    step = next((name for name in reversed(reached) if reached[name]), "found")
    merge_bytes = sum(planned.shard_bytes) if planned else 0
    num_done, done_bytes = len(records), sum(size for _, size in records.values())
    if model and planned is not None:
        num_done, done_bytes = planned.num_units, merge_bytes
    is_merging = not model and outcome is None
    return RunStatus(
        run=run,
        step=outcome.result if outcome else step,
        num_candidates=len(plan.candidates),
        num_skipped=len(plan.skipped),
        num_scored=num_scored,
        num_units=planned.num_units if planned else 0,
        num_done=num_done,
        merge_bytes=merge_bytes,
        done_bytes=done_bytes,
        model=model,
        verdict=verdict.decision if verdict else "",
        sentence=verdict.sentence if verdict else "",
        outcome=outcome,
        removed=read_removed(store, run),
        pace=_pace(store, records, merge_bytes - done_bytes, now) if is_merging else None,
    )


def _find_pointers(
    store: Store, run: RunStatus | None
) -> tuple[tuple[Pointer, ...], LostPointer | None]:
    """The newest pointers, or why there is none although there were some."""
    while True:
        pointers = tuple(islice(read_history(store), NUM_SHOWN + 1))
        try:
            if pointers:
                return pointers, None
            if is_fresh(store):
                return (), _miss_first(store, run)
        except PointerError as error:
            return (), LostPointer(error.code, str(error), error.hint)


def _miss_first(store: Store, run: RunStatus | None) -> LostPointer | None:
    """The log begins when a pointer is replaced: of the first one the outcome of its run tells."""
    if run is None or run.outcome is None or run.outcome.result != "promoted":
        return None
    return LostPointer(
        PointerError.code,
        f"{store.uri}/{POINTER_KEY} is gone, but {run.run} ended as promoted; nothing was changed",
        f"metafuse promote {store.uri} {run.run} --reason TEXT points at it again",
    )


def _find_progress(store: Store, run: RunStatus | None, lease: LeaseStatus) -> ProgressNote | None:
    """The note of the driver that is at work on this run; notes of other drivers do not count."""
    if run is None or run.outcome is not None or lease.state not in ("alive", "silent"):
        return None
    said = read_progress(store)
    is_its = said is not None and lease.holder is not None and said.owner == lease.holder.owner
    return said if is_its and said is not None and said.run == run.run else None


def _watch(store: Store, watch_seconds: float, sleep: Callable[[float], None]) -> LeaseStatus:
    first = read_lease(store)
    if first is None or first[0].released:
        return LeaseStatus("free", first[0] if first else None)
    if is_gone(first[0]):
        return LeaseStatus("gone", first[0])
    left = watch_seconds
    while left > 0:
        step = min(PATIENCE.lease_poll, left)
        sleep(step)
        left -= step
        now = read_lease(store)
        if now is None or now[0].released:
            return LeaseStatus("free", now[0] if now else None)
        if now[1] != first[1]:
            return LeaseStatus("alive", now[0])
    return LeaseStatus("silent", first[0])


def _count_scored(store: Store, plan: RunPlan) -> int:
    """Candidates with a score file on the rank slice: they are named by what was scored."""
    found = {
        entry.key.split("/")[1].partition("-")[0]
        for entry in store.list("scores/")
        if entry.key.endswith("-rank.parquet")
    }
    cached = sum(candidate.digest[:16] in found for candidate in plan.candidates)
    copies = store.list(f"runs/{plan.run}/scores/")  # the cache may have been cleaned up
    return max(cached, sum(entry.key.endswith("-rank.parquet") for entry in copies))


def _merged(
    store: Store, run: str
) -> tuple[dict[str, tuple[ObjectInfo, int]], PlannedUnits | None]:
    """Records of units by key with the units' bytes, and the plan of the ledger, by listing."""
    entries = {entry.key: entry for entry in store.list(f"runs/{run}/ledger-")}
    keys = [key for key in entries if not key.split("/")[2].startswith("ledger-baseline-")]
    plans = [key for key in keys if key.endswith(f"/{UNITS_KEY}")]
    if not plans:
        return {}, None
    try:
        planned = read_stored(PlannedUnits, store, plans[-1])
    except NotFoundError:
        return {}, None
    folder = plans[-1].removesuffix(UNITS_KEY)
    records = {}
    for key in keys:
        name = key.removeprefix(folder)
        if key.startswith(folder) and UNIT.fullmatch(name):
            records[key] = (entries[key], planned.bytes_of(name.removesuffix(".json")))
    return records, planned


def _pace(
    store: Store, records: Mapping[str, tuple[ObjectInfo, int]], left: int, now: float | None
) -> MergePace | None:
    if now is None:
        return None
    entries = [entry for entry, _ in records.values()]
    return find_pace(store, entries, {k: size for k, (_, size) in records.items()}, left, now=now)


def _committed(store: Store, run: str) -> str:
    """Folder of a model whose manifest is there; "" for none."""
    for entry in store.list(f"runs/{run}/model-"):
        if entry.key.endswith(f"/{MODEL_MANIFEST}"):
            return entry.key.removesuffix(f"/{MODEL_MANIFEST}")
    return ""
