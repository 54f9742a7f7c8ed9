"""The fused model against everything else on the gate slice."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from fusion.checkpoints.checkpoint import Checkpoint
from fusion.errors import ManifestError
from fusion.evidence.gate import GateRules, Guard, judge
from fusion.evidence.verdict import Verdict
from fusion.scores.contract import ensemble
from fusion.scores.records import Records
from jobs.candidates.pin import pin_checkpoint
from jobs.errors import ModelError
from jobs.evaluate.score import ScoreBook
from jobs.merge.fuse import FusedModel
from jobs.outputs.runs import Incumbent
from jobs.outputs.verify import check_run
from jobs.outputs.written_adapters import find_written_base
from jobs.run.context import RunContext
from jobs.run.names import INCUMBENT
from jobs.run.weigh import ChosenWeights
from jobs.tasks.find_task import find_task

RESCORING_TOLERANCE = 1e-5


@dataclass(frozen=True, slots=True, eq=False)
class Judged:
    """What the gate saw.

    Attributes:
        book: records of candidates, fused, uniform and incumbent on the gate slice.
        pooled: records of the ensemble of outputs; None where a weight is negative, or outputs of
            the kind cannot be pooled.
        incumbent: incumbent that the model was judged against; None for the first model.
        verdict: verdict of the gate.
    """

    book: ScoreBook
    pooled: Records | None
    incumbent: Incumbent | None
    verdict: Verdict

    @property
    def records(self) -> Mapping[str, Records]:
        """Records of the gate slice by name."""
        return self.book.by_name


def judge_fused(
    context: RunContext,
    chosen: ChosenWeights,
    fused: FusedModel,
    others: Sequence[Checkpoint],
    incumbent: Incumbent | None,
) -> Judged:
    """Score everything on the gate slice and decide.

    Args:
        context: context of the run.
        chosen: weights and the best candidate.
        fused: the model to judge.
        others: baselines that are scored too.
        incumbent: the model that is promoted now; None for none.
    """
    members = {c.name: c for c in context.candidates if c.name in chosen.names}
    wanted = [fused.checkpoint, *members.values(), *others]
    if incumbent is not None:
        wanted.append(open_incumbent(context, incumbent))
    book = context.score(wanted, "gate")
    lost = [f for f in book.failures if f.name == chosen.best or f.name not in members]
    if lost:
        raise ModelError(
            f"{lost[0].name} could not be scored on the gate slice, nothing was judged: "
            f"{lost[0].code} {lost[0].message}",
            "run the same command again"
            if lost[0].name != INCUMBENT
            else "mend that model, or put another in its place: metafuse rollback OUTPUT",
        )
    records = book.by_name
    pooled, spec = None, find_task(context.task.kind).spec
    if min(chosen.weights) >= 0 and all(name in records for name in chosen.names):
        pooled = ensemble([records[name] for name in chosen.names], chosen.weights, spec)
    verdict = judge(
        records[fused.checkpoint.name],
        best_candidate=(chosen.best, records[chosen.best]),
        incumbent=(incumbent.run, records[INCUMBENT]) if incumbent else None,
        rules=_rules(context, spec.unit),
        metrics=spec.metrics,
        problems=_problems(context, fused.checkpoint, records),
    )
    return Judged(book, pooled, incumbent, verdict)


def open_incumbent(context: RunContext, incumbent: Incumbent) -> Checkpoint:
    """The promoted model, after its manifests were found to be what the pointer says.

    Raises:
        ManifestError: a manifest is not what the pointer says.
    """
    store = context.store
    model = check_run(store, incumbent.run, incumbent.manifest_sha256)
    uri = f"{store.uri}/{incumbent.model}"
    checkpoint, _ = pin_checkpoint(uri, name=INCUMBENT, base=find_written_base(uri))
    sizes = {entry.name: entry.size for entry in model.manifest.files}
    for shard in checkpoint.shards:
        if sizes.get(shard.name) != shard.pin.size:
            raise ManifestError(f"{incumbent.model}/{shard.name} is not what was promoted")
    return checkpoint


def _rules(context: RunContext, unit: str) -> GateRules:
    gate = context.recipe.gate
    return GateRules(
        smallest_effect=gate.smallest_effect,
        alpha=gate.alpha,
        mode=gate.mode,
        margin=gate.margin,
        first=gate.first,
        guards=tuple(Guard(guard.metric, guard.margin) for guard in gate.guards),
        unit=unit,
    )


def _problems(
    context: RunContext, fused: Checkpoint, records: Mapping[str, Records]
) -> list[tuple[str, str]]:
    """Whether scoring the fused model again, example by example, gives the same losses."""
    from jobs.evaluate.rescoring import Rescoring, rescore

    order = Rescoring(fused, context.task, records[fused.name])
    hands = context.evaluators
    (done,) = hands.runner.run_tasks(rescore, [order], resources=hands.resources, workers=1)
    if done.error is not None:
        raise done.error
    assert done.value is not None
    if done.value <= RESCORING_TOLERANCE:
        return []
    text = (
        f"scoring examples of {fused.name} again changed a loss by {done.value:.2g}, at "
        f"most {RESCORING_TOLERANCE:g} is allowed"
    )
    return [("rescoring_differs", text)]
