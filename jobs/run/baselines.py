"""The fused model and the models it is compared with, which are never promoted."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress

from cluster.errors import ClusterError
from cluster.stores.store import Store
from fusion.checkpoints.checkpoint import Checkpoint
from fusion.evidence.weights import uniform_weights
from fusion.plans.plan import MergePlan
from jobs.merge.fuse import FusedModel, fuse, plan_average
from jobs.outputs.lease import Lease
from jobs.outputs.runs import read_outcome
from jobs.run.context import RunContext
from jobs.run.names import FUSED, UNIFORM
from jobs.run.request import RunRequest


def delete_baselines(store: Store, run: str) -> None:
    """Remove the models that a run made for comparison only."""
    for entry in list(store.list(f"runs/{run}/baseline-")):
        store.delete(entry.key)


@contextmanager
def nothing_late(store: Store, lease: Lease, run: str) -> Iterator[None]:
    """Whoever fails after another driver has finished the run leaves no baseline behind in it.

    Raises:
        LockedError: in place of the failure, as the lease is another driver's.
    """
    try:
        yield
    except Exception:
        with suppress(ClusterError):
            if read_outcome(store, run) is not None:
                delete_baselines(store, run)
            lease.confirm()
        raise


def plan_members(
    context: RunContext, members: Sequence[Checkpoint], weights: Sequence[float]
) -> MergePlan:
    """The plan of the average of some candidates."""
    wanted = context.recipe.merge
    return plan_average(members, weights, wanted.dtype, output=wanted.output)


def fuse_all(
    context: RunContext,
    request: RunRequest,
    members: Sequence[Checkpoint],
    plan: MergePlan,
    *,
    with_baselines: bool,
) -> tuple[FusedModel, tuple[Checkpoint, ...]]:
    """The fused model, and the baselines that are not the same model."""

    def merged(weighted: MergePlan, folder: str, ledger: str, name: str) -> FusedModel:
        return fuse(
            weighted,
            context.store,
            folder=f"{context.folder}/{folder}-{weighted.short}",
            ledger=f"{context.folder}/{ledger}-{weighted.short}",
            name=name,
            title=f"{name.strip('()')} of {context.plan.run}",
            runner=context.runner,
            workers=request.merge_workers,
            memory_bytes=context.recipe.resources.merge.memory_bytes,
            resources=context.merge_resources(),
            # Nobody looks at the tensors of a baseline.
            health=context.recipe.merge.health if name == FUSED else "sampled",
            check=context.lease.confirm,
            on_progress=lambda done, total, figures: context.say(
                f"merge {name.strip('()')}", done, total, figures.unit, figures
            ),
        )

    with context.timed("merge"):
        fused = merged(plan, "model", "ledger", FUSED)
    baseline = plan_members(context, members, uniform_weights(len(members)))
    is_wanted = with_baselines and "uniform" in context.recipe.baselines
    if not is_wanted or baseline.id == plan.id:
        return fused, ()
    with context.timed("merge baseline"):
        uniform = merged(baseline, "baseline", "ledger-baseline", UNIFORM)
    return fused, (uniform.checkpoint,)
