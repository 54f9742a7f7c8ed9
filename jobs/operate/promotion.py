"""The pointer by hand: promote, roll back, hold. Each is one compare-and-swap with its reason."""

from collections.abc import Callable
from dataclasses import dataclass, replace

from cluster.stores.store import Store
from fusion.errors import ManifestError
from fusion.manifests.pointer import Action, Pointer
from jobs.errors import NoCandidatesError, PointerError
from jobs.outputs.pointer import (
    SeenPointer,
    check_owner,
    describe_change,
    is_fresh,
    read_history,
    read_pointer,
    swap_pointer,
)
from jobs.outputs.run_folder import RunFolder
from jobs.outputs.runs import RunPlan, read_outcome, read_plan
from jobs.outputs.verify import CheckedModel, check_run, verify_model


@dataclass(frozen=True, slots=True)
class Steered:
    """What became of the pointer.

    Attributes:
        before: pointer before the change; None where nothing was promoted.
        after: pointer after the change; the same as `before` where nothing was to do.
        text: what was done or would be done, or why nothing was done.
        is_changed: whether the pointer was moved.
    """

    before: Pointer | None
    after: Pointer
    text: str
    is_changed: bool


Decide = Callable[[SeenPointer | None], tuple[Pointer, str]]


def promote(store: Store, run: str, *, reason: str, is_dry_run: bool) -> Steered:
    """Point consumers at the model of a finished run, whatever the gate said of it.

    The high water rises to the run's order if that is above it and never falls. A hold stays: it
    stops runs, not people.

    Raises:
        NoCandidatesError: there is no such run.
        PointerError: the run is not finished, made no judged model, or is another recipe's.
        ManifestError: the run's model is not whole.
    """
    read = Reading(store)

    def decide(seen: SeenPointer | None) -> tuple[Pointer, str]:
        plan, sha256 = _find_judged(store, run)
        before = seen.pointer if seen else None
        if before is not None:
            check_owner(before, plan.recipe)
            if before.run == run:
                return before, f"latest already names {run}; nothing was changed"
        model, text = read.verified(run, sha256)
        assert model.run is not None
        pointer = Pointer(
            recipe=plan.recipe,
            run=run,
            model=model.folder,
            manifest_sha256=sha256,
            logical_date=plan.logical_date,
            previous=before.run if before else "",
            epoch=before.epoch + 1 if before else 1,
            high_water=max(before.high_water, plan.order) if before else plan.order,
            hold=before.hold if before else "",
            changed=describe_change("promote", reason),
        )
        verdict = model.run.verdict.decision
        return pointer, f"latest {_move(before, run)} ({text}); the gate had said {verdict}"

    return _steer(store, decide, is_dry_run=is_dry_run)


def roll_back(store: Store, to: str | None, *, reason: str, is_dry_run: bool) -> Steered:
    """Point consumers at a model that was promoted before, and hold promotions there.

    Args:
        store: store of the output.
        to: name of the run to go back to; None for the run that the current one replaced.
        reason: reason of the rollback, for people.
        is_dry_run: whether to look and verify only, and write nothing.

    Raises:
        NoCandidatesError: nothing was promoted yet.
        PointerError: there is nothing to go back to, or the run was never promoted.
        ManifestError: the model to go back to is not whole; the pointer was not moved.
    """
    read = Reading(store)

    def decide(seen: SeenPointer | None) -> tuple[Pointer, str]:
        now = _current(store, seen)
        assert seen is not None
        target = _find_target(store, seen, to)
        hold = f"rolled back from {now.run}: {reason}"
        if target.run == now.run:
            if now.hold:
                return now, f"latest already names {now.run} and is held; nothing was changed"
            hold = reason
        _, text = read.verified(target.run, target.manifest_sha256)
        pointer = replace(
            now,
            run=target.run,
            model=target.model,
            manifest_sha256=target.manifest_sha256,
            logical_date=target.logical_date,
            previous=now.run if target.run != now.run else now.previous,
            epoch=now.epoch + 1,
            hold=hold,
            changed=describe_change("rollback", reason),
        )
        return pointer, f"latest {_move(now, target.run)} ({text}); promotion is on hold"

    return _steer(store, decide, is_dry_run=is_dry_run)


def hold(store: Store, *, reason: str) -> Steered:
    """Keep runs from moving the pointer until `unhold`; they still judge and report.

    Raises:
        NoCandidatesError: nothing was promoted yet.
    """

    def decide(seen: SeenPointer | None) -> tuple[Pointer, str]:
        now = _current(store, seen)
        was = f" (before: {now.hold})" if now.hold else ""
        return _next(now, "hold", reason, reason), f"latest stays {now.run}: {reason}{was}"

    return _steer(store, decide, is_dry_run=False)


def unhold(store: Store, *, reason: str) -> Steered:
    """Let runs move the pointer again.

    Raises:
        NoCandidatesError: nothing was promoted yet.
        PointerError: the pointer is gone while its log is there.
    """

    def decide(seen: SeenPointer | None) -> tuple[Pointer, str]:
        now = _current(store, seen)
        if not now.hold:
            return now, "there is no hold; nothing was changed"
        return _next(now, "unhold", reason, ""), f"the next run may promote; it was: {now.hold}"

    return _steer(store, decide, is_dry_run=False)


class Reading:
    """Models that were read once during a command, so that a lost race does not read them again."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._known: dict[str, str] = {}

    def verified(self, run: str, manifest_sha256: str) -> tuple[CheckedModel, str]:
        """A run's model with its manifests, sizes, small files and one unit compared.

        The manifests and sizes are asked anew each time: `gc` may have been here.

        Raises:
            ManifestError: something differs.
        """
        model = check_run(self._store, run, manifest_sha256)
        if run not in self._known:
            found = verify_model(self._store, model, share=0.0, seed="")
            if found.differences:
                raise ManifestError(
                    "\n".join(found.differences) + "\nThe pointer was not moved.",
                    f"metafuse verify {self._store.uri} --run RUN --all finds a whole model",
                )
            size = f"{found.read_bytes:,} of {found.num_bytes:,} bytes read"
            self._known[run] = f"{found.num_files} files verified, {size}"
        return model, self._known[run]


def _steer(store: Store, decide: Decide, *, is_dry_run: bool) -> Steered:
    """Read the pointer, decide, swap; again if another process wrote in between.

    `decide` reads everything after the pointer, so the swap fails if any of it may have changed.
    """
    while True:
        seen = read_pointer(store)
        pointer, text = decide(seen)
        before = seen.pointer if seen else None
        if pointer == before:
            return Steered(before, pointer, text, is_changed=False)
        if is_dry_run:
            return Steered(before, pointer, f"would do: {text}", is_changed=False)
        if swap_pointer(store, seen, pointer):
            return Steered(before, pointer, text, is_changed=True)


def _find_judged(store: Store, run: str) -> tuple[RunPlan, str]:
    """A finished, judged run: what it was started with, and the sha256 of its manifest."""
    plan = read_plan(RunFolder(store, run))
    if plan is None:
        raise NoCandidatesError(
            f"{store.uri} has no run {run!r}; nothing was promoted",
            f"metafuse status {store.uri} lists its runs",
        )
    outcome = read_outcome(RunFolder(store, run))
    if outcome is None or not outcome.manifest_sha256:
        state = f"ended as {outcome.result}" if outcome else "is not finished"
        raise PointerError(
            f"{run} {state}: it has no judged model to promote. Nothing was promoted.",
            "metafuse run RECIPE takes up an unfinished run",
        )
    return plan, outcome.manifest_sha256


def _find_target(store: Store, seen: SeenPointer, to: str | None) -> Pointer:
    """The pointer to go back to."""
    now = seen.pointer
    if to is not None:
        found = next((p for p in read_history(store, seen) if p.run == to), None)
        if found is None:
            raise PointerError(
                f"{to} was never promoted to {store.uri}; the pointer was not moved",
                f"metafuse promote {store.uri} {to} --reason TEXT promotes a finished run by hand",
            )
        return found
    found = find_replaced(store, seen)
    moves = ("promote", "rollback")
    moved = next((p for p in read_history(store, seen) if p.changed.action in moves), now)
    if moved.changed.action == "rollback":
        further = f" --to {found.run} --reason TEXT goes further back" if found else ""
        raise PointerError(
            f"latest was rolled back already, to {now.run}, by {moved.changed.by} at "
            f"{moved.changed.at}: {moved.changed.reason}. The pointer was not moved.",
            f"metafuse rollback {store.uri}{further}" if found else "there is nothing before it",
        )
    if found is None:
        raise PointerError(
            f"no model was promoted before {now.run}; the pointer was not moved, and no hold was "
            "set",
            f"metafuse hold {store.uri} --reason TEXT keeps the next run from replacing it",
        )
    return found


def find_replaced(store: Store, seen: SeenPointer) -> Pointer | None:
    """The pointer that stood there when the current model was last promoted; None for none.

    Not the one before the last move: after a roll-back that is the model which was left.
    """
    is_promoted = False
    for pointer in read_history(store, seen):
        if is_promoted and pointer.run != seen.pointer.run:
            return pointer
        is_promoted |= pointer.run == seen.pointer.run and pointer.changed.action == "promote"
    return None


def _current(store: Store, seen: SeenPointer | None) -> Pointer:
    if seen is None:
        is_fresh(store)
        raise NoCandidatesError(
            f"nothing was promoted to {store.uri} yet; nothing was changed",
            "gate.first: hold in the recipe keeps the first model from being promoted by itself",
        )
    return seen.pointer


def _next(now: Pointer, action: Action, reason: str, held: str) -> Pointer:
    changed = describe_change(action, reason)
    return replace(now, epoch=now.epoch + 1, hold=held, changed=changed)


def _move(before: Pointer | None, run: str) -> str:
    return f"{before.run if before else '(nothing)'} -> {run}"
