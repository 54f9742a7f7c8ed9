"""The end of a run: judged, promoted or not, finished. Safe to repeat, by any driver, anywhere."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Literal

from cluster.stores.store import Store
from jobs.outputs.pointer import find_promotion, move_pointer
from jobs.outputs.runs import (
    Incumbent,
    Outcome,
    RunPlan,
    read_incumbent,
    read_outcome,
    write_outcome,
)
from jobs.outputs.verify import check_run

EXIT_PROMOTED, EXIT_NOTHING_NEW, EXIT_HELD, EXIT_REFUSED = 0, 3, 4, 5
REJUDGED_AT_MOST = 3


@dataclass(frozen=True, slots=True)
class Ruling:
    """What the gate said of a run's model, once that is written.

    Attributes:
        decision: of the gate.
        sentence: why.
        manifest_sha256: of the run's manifest that says so.
    """

    decision: Literal["PROMOTE", "HOLD", "REFUSE"]
    sentence: str
    manifest_sha256: str


def conclude(
    store: Store,
    plan: RunPlan,
    *,
    model: str,
    judge: Callable[[Incumbent | None], Ruling],
    check: Callable[[], None],
) -> Outcome:
    """Judge a committed model, move the pointer if that is right, and finish the run.

    Args:
        store: of the output.
        plan: of the run.
        model: key of the model's folder.
        judge: compares the model with an incumbent and writes the run's manifest; called again
            where another model was promoted meanwhile.
        check: raises if this driver may no longer write.

    Returns:
        How the run ended; if another driver finished it first, what that one wrote.
    """
    incumbent = plan.incumbent
    outcome = Outcome("lost", "latest kept moving while this run was judged", EXIT_HELD)
    for _ in range(REJUDGED_AT_MOST):
        ruling = judge(incumbent)
        outcome = replace(outcome, manifest_sha256=ruling.manifest_sha256)
        settled = _settle(store, plan, model, incumbent, ruling, check)
        if settled is not None:
            outcome = settled
            break
        incumbent = read_incumbent(store)
        promoted = _promoted(store, plan)
        if promoted is not None:
            outcome = promoted
            break
    return write_outcome(store, plan.run, outcome)


def finish_promoted(store: Store, plan: RunPlan) -> Outcome | None:
    """Finish a run whose earlier driver moved the pointer and died before it could say so.

    None where no driver did.
    """
    outcome = _promoted(store, plan)
    return None if outcome is None else write_outcome(store, plan.run, outcome)


def finish_unchanged(
    store: Store, plan: RunPlan, merge_plan: str, *, check: Callable[[], None]
) -> Outcome | None:
    """Finish a run whose merge would write the very model that is promoted; None for another.

    Args:
        store: of the output.
        plan: of the run.
        merge_plan: id of the plan of its merge.
        check: raises if this driver may no longer write.

    Raises:
        ManifestError: the promoted model is not what was promoted.
    """
    incumbent = read_incumbent(store)
    if incumbent is None or incumbent.run == plan.run:
        return None
    promoted = check_run(store, incumbent.run, incumbent.manifest_sha256)
    if promoted.manifest.plan != merge_plan:
        return None
    reason = (
        f"this plan is the promoted model of {incumbent.run}: the same candidates with the same "
        "weights; nothing was merged"
    )
    check()
    return write_outcome(store, plan.run, Outcome("nothing_new", reason, EXIT_NOTHING_NEW))


def _settle(
    store: Store,
    plan: RunPlan,
    model: str,
    incumbent: Incumbent | None,
    ruling: Ruling,
    check: Callable[[], None],
) -> Outcome | None:
    """Promote if the verdict says so; None if another model was promoted meanwhile."""
    if ruling.decision == "HOLD":
        return Outcome("held", ruling.sentence, EXIT_HELD, "", ruling.manifest_sha256)
    if ruling.decision == "REFUSE":
        return Outcome("refused", ruling.sentence, EXIT_REFUSED, "", ruling.manifest_sha256)
    promotion = move_pointer(
        store,
        recipe=plan.recipe,
        run=plan.run,
        model=model,
        manifest_sha256=ruling.manifest_sha256,
        order=plan.order,
        judged_against=incumbent.run if incumbent else "",
        check=check,
    )
    if promotion.moved == "lost":
        return None
    if promotion.moved == "finished":
        return read_outcome(store, plan.run)
    if promotion.moved in ("promoted", "already", "superseded"):
        # Superseded: perhaps by a run that came after this one had been promoted.
        promoted = _promoted(store, plan)
        if promoted is not None:
            return promoted
    result = "hold" if promotion.moved == "held" else promotion.moved
    return Outcome(result, promotion.reason, EXIT_HELD, "", ruling.manifest_sha256)


def _promoted(store: Store, plan: RunPlan) -> Outcome | None:
    pointer = find_promotion(store, plan.run, plan.order)
    if pointer is None:
        return None
    reason = f"latest was moved to {plan.run}"
    return Outcome("promoted", reason, EXIT_PROMOTED, pointer.previous, pointer.manifest_sha256)
