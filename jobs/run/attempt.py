"""Attempts of a run: the unfinished one, or a new one with what is there now."""

from dataclasses import dataclass

from cluster.stores.store import Store
from fusion.checkpoints.checkpoint import Checkpoint
from jobs.candidates.find import find_places
from jobs.candidates.pin import open_pinned
from jobs.outputs.lease import Lease
from jobs.outputs.runs import (
    Identity,
    Incumbent,
    RunPlan,
    find_unfinished,
    freeze,
    identify_run,
    read_incumbent,
)
from jobs.run.prepare import Prepared, prepare
from jobs.run.request import RunRequest
from jobs.tasks.contract import EvaluationTask


@dataclass(frozen=True, slots=True)
class Begun:
    """An attempt to work on. `candidates` is None where they are to be opened by frozen pins."""

    identity: Identity
    candidates: tuple[Checkpoint, ...] | None
    task: EvaluationTask | None
    left_for_later: tuple[str, ...] = ()


def take_up(request: RunRequest, store: Store) -> Begun | None:
    """The unfinished attempt, whatever has appeared beside its candidates since."""
    recipe = request.recipe
    identity = find_unfinished(
        store,
        recipe=recipe.name,
        logical_date=request.logical_date,
        recipe_digest=recipe.digest,
    )
    if identity is None:
        return None
    known = {candidate.uri for candidate in identity.plan.candidates}
    known |= {entry.uri for entry in identity.plan.skipped}
    later = tuple(uri for uri in find_places(recipe.candidates) if uri not in known)
    return Begun(identity, None, None, later)


def begin(request: RunRequest, store: Store, lease: Lease, excluded: tuple[str, ...]) -> Begun:
    """A new attempt with what is there now, unless there is nothing new."""
    prepared = prepare(request.recipe, clock=request.clock)
    lease.confirm()
    wanted = _wanted(request, prepared, read_incumbent(store), excluded)
    identity = identify_run(store, wanted)
    if identity.state == "resumed":
        return Begun(identity, None, None)
    kept = tuple(c for c in prepared.candidates if c.name not in excluded)
    return Begun(identity, kept, prepared.task)


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
    )


def open_frozen(plan: RunPlan) -> tuple[Checkpoint, ...]:
    """The frozen candidates, which must still be the same bytes.

    Raises:
        SourceChangedError: one is not.
    """
    base = None
    if plan.base is not None:
        whole = plan.base
        base = open_pinned(whole.uri, whole.shards, whole.side_files, name=whole.name)
    return tuple(
        open_pinned(frozen.uri, frozen.shards, frozen.side_files, name=frozen.name, base=base)
        for frozen in plan.candidates
        if frozen.name not in plan.excluded
    )
