"""Attempts of a run: the unfinished one, else a new one with what is there now; how each ends."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace

from cluster.errors import ClusterError
from cluster.stores.store import Store
from fusion.checkpoints.checkpoint import Checkpoint
from fusion.checkpoints.names import align_names
from fusion.errors import NonFiniteError
from jobs.candidates.find import find_places
from jobs.candidates.pin import open_pinned
from jobs.console.figures import Figures, plural
from jobs.errors import SourceChangedError, TooFewError
from jobs.exits import EXIT_STATUSES, NOTHING_NEW
from jobs.outputs.baselines import delete_baselines
from jobs.outputs.fenced import Fenced
from jobs.outputs.lease import Lease, held_lease
from jobs.outputs.open_output import open_output
from jobs.outputs.pointer import check_owner, read_pointer
from jobs.outputs.run_folder import RunFolder, runs_of
from jobs.outputs.runs import (
    FrozenCandidate,
    Identity,
    Incumbent,
    Outcome,
    RunPlan,
    find_unfinished,
    freeze,
    identify_run,
    read_incumbent,
    read_outcome,
    run_name,
    write_outcome,
)
from jobs.run.checks import check_output
from jobs.run.conclude import find_promoted, finish
from jobs.run.prepare import Prepared, prepare
from jobs.run.request import RunRequest, RunResult
from jobs.tasks.contract import EvaluationTask
from jobs.tasks.slicing import Slices

# Errors that end an attempt, and what its outcome is called. Any other leaves it to be resumed.
ENDINGS: Mapping[type[Exception], str] = {
    SourceChangedError: "source_changed",
    TooFewError: "too_few",
    NonFiniteError: "nonfinite",
}


@dataclass(frozen=True, slots=True)
class OpenRun:
    """An output that this driver may write to.

    Attributes:
        request: what to run.
        store: store of the output; it asks the lease before each write.
        bare: store of the output that does not ask the lease.
        lease: lease that this driver holds.
        notes: what the report has to say about the store.
    """

    request: RunRequest
    store: Store
    bare: Store
    lease: Lease
    notes: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Attempt:
    """An attempt to work on.

    Attributes:
        run: the open output that the attempt belongs to.
        identity: frozen plan of the attempt, and whether it is new.
        candidates: pinned candidates; None where they are still to be opened by frozen pins.
        task: task with pinned data; None where it is still to be made with the frozen pin.
        slices: slices of the data; None where they are still to be read, or made, as they were
            frozen.
        left_for_later: places of candidates that were found after the plan was frozen.
        ended: result of an attempt that ended before; None if there is work left.
        damaged: names of candidates that the attempt found damaged, filled as it ends.
    """

    run: OpenRun
    identity: Identity
    candidates: tuple[Checkpoint, ...] | None = None
    task: EvaluationTask | None = None
    slices: Slices | None = None
    left_for_later: tuple[str, ...] = ()
    ended: RunResult | None = None
    damaged: list[str] = field(default_factory=list)

    @property
    def plan(self) -> RunPlan:
        """What was frozen."""
        return self.identity.plan

    @property
    def folder(self) -> RunFolder:
        """Where it writes."""
        return RunFolder(self.run.store, self.plan.run)


@contextmanager
def open_run(request: RunRequest) -> Iterator[OpenRun]:
    """The output of a recipe with its lease, while the block runs.

    Raises:
        LockedError: a live driver is writing to the same output.
        PointerError: the store keeps no conditional writes, or the pointer is another recipe's.
    """
    recipe = request.recipe
    check_output(recipe)
    output = open_output(recipe.output, single_writer=recipe.single_writer)
    bare = output.store
    first = run_name(recipe.name, request.logical_date, 1)
    with held_lease(bare, first, patience=request.patience) as lease:
        request.say.step("find and pin")(0, 1, Figures())
        seen = read_pointer(bare)
        if seen is not None:
            check_owner(seen.pointer, recipe.name)
        yield OpenRun(request, Fenced(bare, lease), bare, lease, output.notes)


def open_attempts(run: OpenRun) -> Iterator[Attempt]:
    """The unfinished attempt, else a new one; then one without the candidates found damaged."""
    attempt = _take_up(run) or _begin(run, ())
    while True:
        count = plural(len(attempt.plan.candidates), "candidate")
        run.request.say.step("find and pin")(1, 1, Figures(unit=count))
        yield attempt
        attempt = _begin(run, (*attempt.plan.excluded, *attempt.damaged))


@contextmanager
def ended_by(attempt: Attempt) -> Iterator[None]:
    """Write the outcome of an attempt that an error ends, and raise that error.

    A damaged candidate ends it without raising where the recipe says to go on without it. A driver
    that fails after another one has finished the run leaves no baseline behind in it.

    Raises:
        LockedError: another driver holds the lease; raised in place of the failure.
    """
    try:
        yield
    except Exception as error:
        _leave_nothing_late(attempt)
        result = ENDINGS.get(type(error))
        if result is None or (isinstance(error, NonFiniteError) and not _may_go_on(attempt, error)):
            raise
        status = EXIT_STATUSES[getattr(error, "code", "")]
        write_outcome(attempt.folder, Outcome(result, str(error), status))
        if not isinstance(error, NonFiniteError):
            raise
        attempt.damaged.append(error.checkpoint)


def open_candidates(plan: RunPlan) -> tuple[Checkpoint, ...]:
    """The frozen candidates, which must still be the same bytes.

    Raises:
        SourceChangedError: a candidate no longer has the same bytes.
    """
    base = None
    if plan.base is not None:
        whole = plan.base
        base = _open(whole)
    opened = [_open(frozen, base) for frozen in plan.candidates if frozen.name not in plan.excluded]
    return align_names(opened)


def _open(frozen: FrozenCandidate, base: Checkpoint | None = None) -> Checkpoint:
    found = open_pinned(frozen.uri, frozen.shards, frozen.side_files, name=frozen.name, base=base)
    return replace(found, left_behind=frozen.left_behind)


def _take_up(run: OpenRun) -> Attempt | None:
    """The unfinished attempt, whatever has appeared beside its candidates since."""
    recipe = run.request.recipe
    identity = find_unfinished(
        run.store,
        recipe=recipe.name,
        logical_date=run.request.logical_date,
        recipe_digest=recipe.digest,
    )
    if identity is None:
        return None
    known = {candidate.uri for candidate in identity.plan.candidates}
    known |= {entry.uri for entry in identity.plan.skipped}
    places = find_places(recipe.candidates, output=runs_of(recipe.output))
    later = tuple(uri for uri in places if uri not in known)
    ended = _find_end(run, identity)
    return Attempt(run, identity, left_for_later=later, ended=ended)


def _begin(run: OpenRun, excluded: tuple[str, ...]) -> Attempt:
    """A new attempt with what is there now, unless there is nothing new."""
    request = run.request
    prepared = prepare(request.recipe, clock=request.clock)
    wanted = _wanted(request, prepared, read_incumbent(run.store), excluded)
    identity = identify_run(run.store, wanted)
    if identity.state == "resumed":
        return Attempt(run, identity, ended=_find_end(run, identity))
    kept = tuple(c for c in prepared.candidates if c.name not in excluded)
    ended = _find_end(run, identity)
    return Attempt(run, identity, kept, prepared.task, prepared.slices, ended=ended)


def _find_end(run: OpenRun, identity: Identity) -> RunResult | None:
    """The end of an attempt with nothing left to do, or whose model is promoted already."""
    plan = identity.plan
    if identity.outcome is not None and identity.state == "nothing_new":
        return RunResult(plan.run, identity.outcome, NOTHING_NEW, run.store.uri, None)
    promoted = find_promoted(run.store, plan)
    if promoted is None:
        return None
    # An earlier driver moved the pointer and died before it could say so.
    folder = RunFolder(run.store, plan.run)
    ended = finish(folder, promoted)
    delete_baselines(folder)
    return ended


def _wanted(
    request: RunRequest,
    prepared: Prepared,
    incumbent: Incumbent | None,
    excluded: tuple[str, ...],
) -> RunPlan:
    return RunPlan(
        run="",
        recipe=request.recipe.name,
        logical_date=request.logical_date,
        attempt=0,
        recipe_digest=request.recipe.digest,
        candidates=freeze(prepared.candidates),
        skipped=prepared.skipped,
        data=prepared.task.pin,
        incumbent=incumbent,
        excluded=excluded,
        base=freeze((prepared.base,))[0] if prepared.base is not None else None,
        slices=prepared.slices.digest,
    )


def _leave_nothing_late(attempt: Attempt) -> None:
    """Remove baselines made after another driver had finished the run.

    Raises:
        LockedError: the lease is another driver's.
    """
    with suppress(ClusterError):
        if read_outcome(attempt.folder) is not None:
            delete_baselines(RunFolder(attempt.run.bare, attempt.plan.run))
        attempt.run.lease.confirm()


def _may_go_on(attempt: Attempt, error: NonFiniteError) -> bool:
    left = {candidate.name for candidate in attempt.plan.candidates} - set(attempt.plan.excluded)
    wanted = attempt.run.request.recipe.merge.on_nonfinite
    return wanted == "exclude_and_reweight" and error.checkpoint in left
