"""The end of a run: promoted, held or refused, with its exit status; safe to repeat."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

from cluster.stores.store import Store
from jobs.exits import DONE, HELD, NOTHING_NEW, REFUSED
from jobs.outputs.judgements import find_judgements
from jobs.outputs.pointer import Nominee, find_promotion, move_pointer
from jobs.outputs.run_folder import RunFolder
from jobs.outputs.runs import (
    Incumbent,
    Outcome,
    RunPlan,
    read_incumbent,
    read_outcome,
    write_outcome,
)
from jobs.outputs.verify import check_run
from jobs.run.request import RunResult

REJUDGED_AT_MOST = 3


@dataclass(frozen=True, slots=True)
class Ruling:
    """What the gate said of a run's model, once that is written.

    Attributes:
        decision: decision of the gate.
        sentence: reason of the decision, for people.
        manifest_sha256: sha256 of the run's manifest that records the decision.
        incumbent: name of the run that the model was judged against; "" for none.
    """

    decision: Literal["PROMOTE", "HOLD", "REFUSE"]
    sentence: str
    manifest_sha256: str
    incumbent: str


def incumbents(store: Store, plan: RunPlan) -> Iterator[tuple[Incumbent | None, bool]]:
    """The incumbents to judge a run's model against, each with whether it is the last try.

    First the frozen incumbent, then each model promoted since. Ends early where another driver of
    the run has promoted the run itself.
    """
    yield plan.incumbent, False
    for number in range(2, REJUDGED_AT_MOST + 1):
        incumbent = read_incumbent(store)
        if find_promoted(store, plan) is not None:
            return
        yield incumbent, number == REJUDGED_AT_MOST


def promote(
    store: Store, plan: RunPlan, model: str, *, ruling: Ruling, is_last: bool
) -> Outcome | None:
    """Move the pointer if the ruling says so; None if another model was promoted meanwhile.

    Args:
        store: store of the output, fenced where a lease is held.
        plan: plan of the run.
        model: key of the model's folder.
        ruling: ruling of the gate, already written.
        is_last: whether the run is lost if another model was promoted meanwhile.

    Returns:
        How the run ends.
    """
    if ruling.decision == "HOLD":
        return Outcome("held", ruling.sentence, HELD, "", ruling.manifest_sha256)
    if ruling.decision == "REFUSE":
        return Outcome("refused", ruling.sentence, REFUSED, "", ruling.manifest_sha256)
    nominee = Nominee(
        plan.recipe, plan.run, model, ruling.manifest_sha256, plan.order, ruling.incumbent
    )
    promotion = move_pointer(store, nominee)
    if promotion.moved == "lost":
        reason = "latest kept moving while this run was judged"
        lost = Outcome("lost", reason, HELD, "", ruling.manifest_sha256)
        return find_promoted(store, plan) or lost if is_last else None
    if promotion.moved == "finished":
        return read_outcome(RunFolder(store, plan.run))
    if promotion.moved in ("promoted", "already", "superseded"):
        # Superseded: perhaps by a run that came after this one had been promoted.
        promoted = find_promoted(store, plan)
        if promoted is not None:
            return promoted
    result = "hold" if promotion.moved == "held" else promotion.moved
    return Outcome(result, promotion.reason, HELD, "", ruling.manifest_sha256)


def find_promoted(store: Store, plan: RunPlan) -> Outcome | None:
    """How a run ends whose model was promoted, by any of its drivers; None if it never was."""
    pointer = find_promotion(store, plan.run, plan.order)
    if pointer is None:
        return None
    reason = f"latest was moved to {plan.run}"
    return Outcome("promoted", reason, DONE, pointer.previous, pointer.manifest_sha256)


def find_unchanged(store: Store, plan: RunPlan, merge_plan: str) -> Outcome | None:
    """How a run ends whose merge would write the very model that is promoted; None for another.

    Args:
        store: store of the output.
        plan: plan of the run.
        merge_plan: id of the run's merge plan.

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
    return Outcome("nothing_new", reason, NOTHING_NEW)


def finish(folder: RunFolder, outcome: Outcome | None) -> RunResult:
    """Write how a run ended, last of all; what another driver wrote first stands."""
    assert outcome is not None
    outcome = write_outcome(folder, outcome)
    reports = [judgement.report for judgement in find_judgements(folder)]
    report = reports[-1] if reports else None
    return RunResult(folder.run, outcome, outcome.exit_status, folder.store.uri, report)
