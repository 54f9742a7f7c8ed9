"""Make the value that a run's report shows, from what the run saw."""

from collections.abc import Mapping
from datetime import UTC, datetime
from importlib.metadata import version
from typing import Literal

from fusion.checkpoints.checkpoint import Checkpoint, num_bytes, num_parameters
from fusion.evidence.differences import accuracy_change, interval, paired_difference
from fusion.evidence.headline import Terms, write_headline
from fusion.evidence.verdict import Role
from fusion.evidence.weights import effective_models
from fusion.manifests.report import (
    AccuracyRow,
    CandidateRow,
    ForestRow,
    ModelRow,
    RunReport,
    ShownMetric,
)
from fusion.scores.contract import Metric, TaskSpec, score
from fusion.scores.records import Records, Score
from jobs.candidates.doubts import find_doubts
from jobs.evaluate.score import ScoreBook
from jobs.merge.fuse import FusedModel
from jobs.recipes.recipe import Recipe
from jobs.report.advice import Place, advise
from jobs.run.context import RunContext
from jobs.run.evidence import find_evidence
from jobs.run.judge import Judged
from jobs.run.names import INCUMBENT, UNIFORM
from jobs.run.weigh import ChosenWeights
from jobs.run.witness import Witness
from jobs.tasks.find_task import find_task

# Heads that `metafuse predict` gives an answer of.
ASKED = ("classes", "labels", "value", "tokens")
Line = Literal["candidate", "fused", "uniform", "ensemble", "incumbent"]


def make_report(context: RunContext, witness: Witness, judged: Judged) -> RunReport:
    """The report of a judged run."""
    incumbent = judged.incumbent.run if judged.incumbent else ""
    plan, ranked, chosen, fused = context.plan, witness.ranked, witness.chosen, witness.fused
    spec, gate = find_task(context.task.kind).spec, context.recipe.gate
    found = find_evidence(context, witness, judged)
    return RunReport(
        run=plan.run, recipe=plan.recipe, logical_date=plan.logical_date, attempt=plan.attempt,
        created=_now(), version=version("metafuse"), incumbent=incumbent,
        output=context.store.uri,
        model=f"{context.store.uri}/{fused.folder}",
        verdict=judged.verdict,
        headline=write_headline(judged.verdict, _terms(context, spec, chosen, incumbent)),
        task=_describe_task(context),
        slices=context.slices.counts,
        rule=chosen.rule,
        effective_models=effective_models(chosen.weights),
        reference=_forest_reference(chosen, judged)[0],
        smallest_effect=gate.smallest_effect,
        candidates=_candidate_rows(context, ranked, chosen, judged.book),
        models=_model_rows(spec, chosen, fused, judged),
        forest=_forest_rows(chosen, fused, judged),
        merge=fused.figures, health=fused.manifest.health,
        timings=tuple(context.timings.items()),
        published=context.attempt.run.request.published,
        sources=fused.manifest.sources, notes=(*_notes(context), *found.notes),
        commands=_commands(context, fused, judged),
        accuracies=_accuracy_rows(spec, chosen, fused, judged),
        shown=_shown(spec), loss=spec.loss, measure=spec.measure, unit=spec.unit,
        floor=-gate.margin if gate.mode == "non_inferior" else 0.0,
        data=found.survey, answers=found.answers, examples=found.examples,
    )  # fmt: skip


def _terms(context: RunContext, spec: TaskSpec, chosen: ChosenWeights, incumbent: str) -> Terms:
    gate = context.recipe.gate
    return Terms(gate.mode, gate.margin, spec.measure, spec.unit, chosen.best, incumbent)


def _notes(context: RunContext) -> tuple[str, ...]:
    """What a reader has to know beside the figures."""
    attempt, sliced = context.attempt, context.slices
    notes = [*attempt.run.notes, *find_doubts(context.candidates)]
    if sliced.num_repeated:
        notes.append(
            f"{sliced.num_repeated} near-duplicates of examples in other slices were left out"
        )
    if sliced.num_shared:
        notes.append(
            f"{sliced.num_shared} examples of the audit slice nearly repeat one of the gate "
            "slice; they were left where they are"
        )
    if attempt.identity.state == "resumed":
        notes.append("the run was interrupted and taken up again; times are of the last part")
    if attempt.left_for_later:
        found = ", ".join(attempt.left_for_later)
        notes.append(f"found since the run began and left for the next: {found}")
    return tuple(notes)


def _shown(spec: TaskSpec) -> tuple[ShownMetric, ...]:
    metrics = [(name, spec.metrics[name]) for name in spec.shown]
    return tuple(ShownMetric(name, metric.title, metric.is_share) for name, metric in metrics)


def _describe_task(context: RunContext) -> str:
    task = context.task
    name = f"{len(task.files)} files" if task.files else task.data.rpartition("/")[2]
    return f"{task.kind} on {name}"


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")


def _accuracy_rows(
    spec: TaskSpec, chosen: ChosenWeights, fused: FusedModel, judged: Judged
) -> tuple[AccuracyRow, ...]:
    accuracy = spec.metrics.get("accuracy")
    if accuracy is None or accuracy.each is None:
        return ()
    records = judged.records
    model = records[fused.checkpoint.name]
    references: list[tuple[Role, str, Records]] = [
        ("best_candidate", chosen.best, records[chosen.best])
    ]
    if judged.incumbent is not None:
        references.insert(0, ("incumbent", judged.incumbent.run, records[INCUMBENT]))
    return tuple(
        AccuracyRow(name, role, accuracy_change(reference, model, accuracy.each))
        for role, name, reference in references
        if reference.ids == model.ids
    )


def find_place(recipe: Recipe, output: str, *, run: str, model: str) -> Place:
    """Where a run's model stands and how it is used."""
    spec = find_task(recipe.task.kind).spec
    takes_text = spec.head in ASKED and spec.columns.get("text") == "text"
    takes_text = takes_text and not recipe.task.columns.get("text_pair")
    base = recipe.base if recipe.merge.output == "adapter" and recipe.base else ""
    return Place(output, run, model, base, takes_text, recipe.single_writer)


def _commands(
    context: RunContext, fused: FusedModel, judged: Judged
) -> tuple[tuple[str, str], ...]:
    output = context.store.uri
    place = find_place(
        context.recipe, output, run=context.plan.run, model=f"{output}/{fused.folder}"
    )
    is_taken = judged.verdict.decision == "PROMOTE"
    return advise(place, is_taken=is_taken, has_promoted=is_taken or judged.incumbent is not None)


def _candidate_rows(
    context: RunContext, ranked: ScoreBook, chosen: ChosenWeights, gate: ScoreBook
) -> tuple[CandidateRow, ...]:
    weights = dict(zip(chosen.names, chosen.weights, strict=True))
    reasons = {choice.name: choice for choice in chosen.choices}
    failures = {failure.name: failure for failure in ranked.failures}
    metrics = find_task(context.task.kind).spec.metrics
    rows = []
    for candidate in context.candidates:
        name = candidate.name
        failure = failures.get(name)
        kept = name in weights
        seconds, peak, health = _measured(candidate, ranked, gate)
        rows.append(
            CandidateRow(
                name=name,
                uri=candidate.uri,
                status="failed" if failure else "kept" if kept else "dropped",
                reason=failure.message if failure else reasons[name].reason,
                weight=weights.get(name),
                num_parameters=num_parameters(candidate),
                num_bytes=num_bytes(candidate),
                rank=_score(ranked, name, "rank", metrics),
                gate=_score(gate, name, "gate", metrics),
                seconds=seconds,
                peak_bytes=peak,
                health=health,
            )
        )
    order = {"kept": 0, "dropped": 1, "failed": 2, "skipped": 3}
    rows += [
        CandidateRow(entry.name, entry.uri, "skipped", entry.reason)
        for entry in context.plan.skipped
    ]
    rows += [
        CandidateRow(name, "", "skipped", "damaged: left out by an earlier attempt")
        for name in context.plan.excluded
    ]
    return tuple(sorted(rows, key=lambda r: (order[r.status], -(r.weight or 0), r.name)))


def _measured(candidate: Checkpoint, *books: ScoreBook) -> tuple[float | None, int | None, str]:
    """Seconds and peak memory of a candidate's evaluations, and what looked damaged."""
    results = [
        result
        for book in books
        for (name, _), result in book.results.items()
        if name == candidate.name
    ]
    if not results:
        return None, None, ""
    health = next((result.health for result in results if result.health), "")
    return sum(r.seconds for r in results), max(r.peak_bytes for r in results), health


def _score(
    book: ScoreBook, name: str, slice_name: str, metrics: Mapping[str, Metric]
) -> Score | None:
    records = book.records.get((name, slice_name))
    return None if records is None else score(records, metrics, name=name, slice=slice_name)


def _model_rows(
    spec: TaskSpec, chosen: ChosenWeights, fused: FusedModel, judged: Judged
) -> tuple[ModelRow, ...]:
    def scored(name: str, records: Records) -> Score:
        return score(records, spec.metrics, name=name, slice="gate")

    records = judged.records
    rows = [ModelRow("fused", "fused", scored("fused", records[fused.checkpoint.name]), "1 model")]
    if UNIFORM in records:
        average = scored("uniform average", records[UNIFORM])
        rows.append(ModelRow("uniform average", "uniform", average, "1 model"))
    if judged.pooled is not None:
        cost = f"{len(chosen.names)} models"
        rows.append(ModelRow("ensemble", "ensemble", scored("ensemble", judged.pooled), cost))
    best = scored(chosen.best, records[chosen.best])
    rows.append(ModelRow(f"{chosen.best} (best candidate)", "best_single", best, "1 model"))
    if judged.incumbent is not None:
        name = judged.incumbent.run
        standing = scored(name, records[INCUMBENT])
        rows.append(ModelRow(f"{name} (incumbent)", "incumbent", standing, "1 model"))
    return tuple(rows)


def _forest_reference(chosen: ChosenWeights, judged: Judged) -> tuple[str, Records]:
    """What the gate found hardest to beat: name and records."""
    records = judged.records
    hardest = min(judged.verdict.comparisons, key=lambda c: c.lower, default=None)
    if hardest is not None and hardest.role == "incumbent":
        return hardest.reference, records[INCUMBENT]
    return chosen.best, records[chosen.best]


def _forest_rows(chosen: ChosenWeights, fused: FusedModel, judged: Judged) -> tuple[ForestRow, ...]:
    records = judged.records
    reference_name, reference = _forest_reference(chosen, judged)
    lines: list[tuple[str, Line, Records]] = [("fused", "fused", records[fused.checkpoint.name])]
    if judged.pooled is not None:
        lines.append(("ensemble", "ensemble", judged.pooled))
    if UNIFORM in records:
        lines.append(("uniform average", "uniform", records[UNIFORM]))
    if judged.incumbent is not None:
        lines.append((judged.incumbent.run, "incumbent", records[INCUMBENT]))
    lines += [(name, "candidate", records[name]) for name in chosen.names if name in records]
    rows = []
    for name, role, found in lines:
        if found.ids != reference.ids or name == reference_name:
            continue
        difference = paired_difference(reference, found)
        low, high = interval(difference)
        rows.append(
            ForestRow(
                name,
                role,
                difference.mean,
                low,
                high,
                difference.num_examples,
                difference.num_clusters,
            )
        )
    return tuple(rows)
