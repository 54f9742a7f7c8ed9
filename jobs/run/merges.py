"""The merges of a run: the fused model, and baselines it is compared with, never promoted."""

from fusion.checkpoints.checkpoint import Checkpoint
from fusion.evidence.weights import uniform_weights
from fusion.plans.health import HealthMode
from fusion.plans.plan import MergePlan
from jobs.candidates.doubts import describe_left_behind
from jobs.console.show import warn
from jobs.merge.fuse import FusedModel, Manner, Target, fuse, left_behind, plan_wish
from jobs.outputs.baselines import BASELINE
from jobs.outputs.judgements import find_judgement
from jobs.run.context import RunContext
from jobs.run.names import FUSED, UNIFORM
from jobs.run.weigh import ChosenWeights


def plan_members(context: RunContext, chosen: ChosenWeights) -> MergePlan:
    """The plan of the merge of the chosen candidates with their weights."""
    return plan_wish(_members(context, chosen), chosen.weights, context.recipe.merge.wish)


def fuse_members(context: RunContext, plan: MergePlan) -> FusedModel:
    """The model that the run is about: merged, dressed, committed."""
    line = describe_left_behind(left_behind(plan.request))
    if line:
        warn(line)
    health = context.recipe.merge.health
    with context.timed("merge"):
        return _fuse(context, plan, _target(context, plan, FUSED, "", "model"), health=health)


def fuse_baselines(
    context: RunContext, chosen: ChosenWeights, plan: MergePlan
) -> tuple[Checkpoint, ...]:
    """What the fused model is compared with, where that is another model.

    A run that was judged against its incumbent needs them no more.
    """
    incumbent = context.plan.incumbent
    known = find_judgement(context.folder, incumbent.run if incumbent else "")
    if known is not None or "uniform" not in context.recipe.baselines:
        return ()
    members = _members(context, chosen)
    baseline = plan_wish(members, uniform_weights(len(members)), context.recipe.merge.wish)
    if baseline.id == plan.id:
        return ()
    target = _target(context, baseline, UNIFORM, f"-{BASELINE}", BASELINE)
    with context.timed("merge baseline"):
        return (_fuse(context, baseline, target, health="sampled").checkpoint,)


def _members(context: RunContext, chosen: ChosenWeights) -> tuple[Checkpoint, ...]:
    return tuple(c for c in context.candidates if c.name in chosen.names)


def _target(context: RunContext, plan: MergePlan, name: str, ledger: str, model: str) -> Target:
    folder = context.folder
    return Target(
        folder.store,
        folder.key(f"{model}-{plan.short}"),
        folder.key(f"ledger{ledger}-{plan.short}"),
        name,
        title=f"{name.strip('()')} of {folder.run}",
    )


def _fuse(
    context: RunContext, plan: MergePlan, target: Target, *, health: HealthMode
) -> FusedModel:
    return fuse(
        plan,
        target,
        hands=context.mergers,
        manner=Manner(context.recipe.resources.merge.memory_bytes, health=health),
        tell=context.say.step(f"merge {target.name.strip('()')}"),
    )
