"""Which run this is: a name from recipe and date, an attempt, and the pins frozen at its start."""

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

from cluster.errors import PreconditionError
from cluster.stores.store import Store
from fusion.canonical import to_json
from fusion.checkpoints.checkpoint import Checkpoint, LeftBehind, Pin, PinnedFile, checkpoint_digest
from jobs.candidates.changes import is_same_pin
from jobs.candidates.skipped import Skipped
from jobs.outputs.keys import OUTCOME_KEY, PLAN_KEY
from jobs.outputs.pointer import read_pointer
from jobs.outputs.run_folder import RunFolder
from jobs.outputs.stored import read_stored

# Attempts that ended for a reason which may be gone by now: the next call starts another.
TRIED_AGAIN = ("source_changed", "nonfinite", "too_few", "abandoned")


@dataclass(frozen=True, slots=True)
class FrozenCandidate:
    """A candidate as the run's first driver saw it; `digest` covers the pins of all its files."""

    name: str
    uri: str
    digest: str
    shards: tuple[PinnedFile, ...]
    side_files: tuple[PinnedFile, ...]
    left_behind: tuple[LeftBehind, ...] = ()


@dataclass(frozen=True, slots=True)
class Incumbent:
    """The promoted model that the run is judged against."""

    run: str
    model: str
    manifest_sha256: str


@dataclass(frozen=True, slots=True)
class RunPlan:
    """`plan.json`: what a run was asked to do, frozen by its first driver.

    Attributes:
        run: name of the run with attempt.
        recipe: name of the recipe.
        logical_date: logical date of the run.
        attempt: number of the attempt, from 1.
        recipe_digest: digest of what in the recipe changes the result.
        candidates: frozen candidates, in name order.
        skipped: candidates that were found but are not usable, with the reason.
        data: pin of the evaluation data.
        incumbent: promoted model when the plan was frozen; None before anything was promoted.
        excluded: names of candidates left out because an earlier attempt found them damaged.
        base: base of candidates that are adapters; None where none was named.
        slices: digest of the slices; "" where an older release began the run.
    """

    run: str
    recipe: str
    logical_date: str
    attempt: int
    recipe_digest: str
    candidates: tuple[FrozenCandidate, ...]
    skipped: tuple[Skipped, ...]
    data: Pin
    incumbent: Incumbent | None
    excluded: tuple[str, ...] = ()
    base: FrozenCandidate | None = None
    slices: str = ""

    @property
    def order(self) -> tuple[str, int]:
        """What promotion compares with the pointer's high water."""
        return (self.logical_date, self.attempt)


@dataclass(frozen=True, slots=True)
class Outcome:
    """`outcome.json`: written last; a run without it is unfinished.

    Attributes:
        result: promoted, held, refused, hold, superseded, lost, nothing_new (the promoted model
            again), source_changed, nonfinite, too_few, abandoned (by gc).
        reason: reason of the result, for people.
        exit_status: exit status of the driver that wrote the outcome.
        previous: name of the run that was promoted before this one; "" if this one was not
            promoted.
        manifest_sha256: sha256 of the run's manifest that counts; "" if the run was not judged.
    """

    result: str
    reason: str
    exit_status: int
    previous: str = ""
    manifest_sha256: str = ""


@dataclass(frozen=True, slots=True)
class Identity:
    """The run to work on, and whether it is new, unfinished, or has nothing left to do."""

    plan: RunPlan
    state: Literal["new", "resumed", "nothing_new"]
    outcome: Outcome | None = None


def run_name(recipe: str, logical_date: str, attempt: int) -> str:
    """nightly-2026-11-24, and from the second attempt on nightly-2026-11-24.2."""
    return f"{recipe}-{logical_date}" + (f".{attempt}" if attempt > 1 else "")


def freeze(candidates: Sequence[Checkpoint]) -> tuple[FrozenCandidate, ...]:
    """What a run remembers of its candidates."""
    return tuple(
        FrozenCandidate(c.name, c.uri, checkpoint_digest(c), c.shards, c.side_files, c.left_behind)
        for c in candidates
    )


def find_unfinished(
    store: Store, *, recipe: str, logical_date: str, recipe_digest: str
) -> Identity | None:
    """The attempt of this recipe and date that was begun and not ended, to be taken up again."""
    _, last = last_attempt(store, recipe, logical_date)
    if last is None or last.recipe_digest != recipe_digest:
        return None
    return Identity(last, "resumed") if read_outcome(RunFolder(store, last.run)) is None else None


def identify_run(store: Store, wanted: RunPlan) -> Identity:
    """Freeze the plan of a new attempt, unless there is nothing new; see `find_unfinished`.

    Args:
        store: store of the output.
        wanted: plan of a new first attempt, with what was found now.

    Returns:
        "nothing_new" if the last attempt is finished and neither recipe, candidates nor data
        differ; "resumed" if another driver has begun the attempt meanwhile; else "new".
    """
    while True:
        attempt, last = last_attempt(store, wanted.recipe, wanted.logical_date)
        if last is not None:
            outcome = read_outcome(RunFolder(store, last.run))
            same_recipe = last.recipe_digest == wanted.recipe_digest
            finished = outcome is not None and outcome.result not in TRIED_AGAIN
            if finished and same_recipe and _same_inputs(last, wanted):
                return Identity(last, "nothing_new", outcome)
        number = attempt + 1
        name = run_name(wanted.recipe, wanted.logical_date, number)
        plan = replace(wanted, run=name, attempt=number)
        key = RunFolder(store, name).key(PLAN_KEY)
        try:
            store.put(key, to_json(plan), if_absent=True)
        except PreconditionError:
            begun = read_stored(RunPlan, store, key)
            if begun == plan:
                return Identity(plan, "new")  # our own first try, whose answer was lost
            if begun.recipe_digest == plan.recipe_digest:
                return Identity(begun, "resumed")
            continue
        return Identity(plan, "new")


def last_attempt(store: Store, recipe: str, logical_date: str) -> tuple[int, RunPlan | None]:
    """The highest attempt of a run and its frozen plan; (0, None) where there is none."""
    stem = f"runs/{recipe}-{logical_date}"
    pattern = re.compile(re.escape(stem) + r"(?:\.(\d+))?/plan\.json")
    found = [match for entry in store.list(stem) if (match := pattern.fullmatch(entry.key))]
    if not found:
        return 0, None
    number = max(int(match[1] or 1) for match in found)
    folder = RunFolder(store, run_name(recipe, logical_date, number))
    return number, read_stored(RunPlan, store, folder.key(PLAN_KEY))


def read_plan(folder: RunFolder) -> RunPlan | None:
    """What a run was started with; None if there is no such run."""
    return folder.find(RunPlan, PLAN_KEY)


def read_outcome(folder: RunFolder) -> Outcome | None:
    """How a run ended; None if it has not."""
    return folder.find(Outcome, OUTCOME_KEY)


ENDED_RUN = re.compile(rf"runs/[^/]+/{re.escape(OUTCOME_KEY)}")


def find_last_outcome(store: Store) -> tuple[str, Outcome] | None:
    """The run that ended last, and how; None where none has ended."""
    ends = [entry for entry in store.list("runs/") if ENDED_RUN.fullmatch(entry.key)]
    if not ends:
        return None
    key = max(ends, key=lambda entry: entry.modified).key
    return key.split("/")[1], read_stored(Outcome, store, key)


def write_outcome(folder: RunFolder, outcome: Outcome) -> Outcome:
    """Finish a run; if another driver finished it first, its outcome stands and is returned."""
    key = folder.key(OUTCOME_KEY)
    try:
        folder.store.put(key, to_json(outcome), if_absent=True)
    except PreconditionError:
        return read_stored(Outcome, folder.store, key)
    return outcome


def read_incumbent(store: Store) -> Incumbent | None:
    """The promoted model, from the pointer."""
    seen = read_pointer(store)
    if seen is None:
        return None
    pointer = seen.pointer
    return Incumbent(pointer.run, pointer.model, pointer.manifest_sha256)


def _same_inputs(a: RunPlan, b: RunPlan) -> bool:
    ours, theirs = _members(a), _members(b)
    return (
        ours.keys() == theirs.keys()
        and all(_same_files(ours[key], theirs[key]) for key in ours)
        and is_same_pin(a.data, b.data)
    )


def _members(plan: RunPlan) -> dict[tuple[str, bool], FrozenCandidate]:
    """Candidates and base by URI and whether it is the base."""
    base = {(plan.base.uri, True): plan.base} if plan.base is not None else {}
    return {(c.uri, False): c for c in plan.candidates} | base


def _same_files(a: FrozenCandidate, b: FrozenCandidate) -> bool:
    """Whether the files of two candidates are the same bytes."""
    ours, theirs = ({f.name: f.pin for f in (*c.shards, *c.side_files)} for c in (a, b))
    return ours.keys() == theirs.keys() and all(is_same_pin(ours[n], theirs[n]) for n in ours)
