"""What is written beside a model, and what a run tells."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

from fusion.canonical import SCHEMA
from fusion.evidence.verdict import AccuracyChange, Verdict
from fusion.manifests.model import MergeFigures, SourceEntry
from fusion.manifests.survey import ExampleRow, Survey
from fusion.plans.health import ModelHealth
from fusion.scores.confusion import Answers
from fusion.scores.records import Score

CandidateStatus = Literal["kept", "dropped", "skipped", "failed"]


@dataclass(frozen=True, slots=True)
class CandidateRow:
    """One candidate in the report.

    Attributes:
        name: short name of the candidate.
        uri: URI of the candidate.
        status: kept (in the average), dropped (by selection), skipped (unusable before
            evaluation), failed (evaluation ended with an error).
        reason: reason of the status, for people.
        weight: merge weight; None if the candidate is not kept.
        num_parameters: number of elements of all tensors; None if unknown.
        num_bytes: bytes of all tensors; None if unknown.
        seconds: measured evaluation time of all slices in seconds; None if not measured.
        peak_bytes: peak resident memory of the process that evaluated the candidate; None if not
            measured.
        rank: score on the rank slice; None if there is none.
        gate: score on the gate slice; None if there is none.
        health: what looks damaged in the tensors ("absmax 3.1e38 in lstm.weight"); "" for nothing.
    """

    name: str
    uri: str
    status: CandidateStatus
    reason: str
    weight: float | None = None
    num_parameters: int | None = None
    num_bytes: int | None = None
    seconds: float | None = None
    peak_bytes: int | None = None
    rank: Score | None = None
    gate: Score | None = None
    health: str = ""


@dataclass(frozen=True, slots=True)
class ModelRow:
    """A model compared on the gate slice: fused, uniform, ensemble, best single, incumbent."""

    name: str
    role: Literal["fused", "uniform", "ensemble", "best_single", "incumbent"]
    gate: Score
    cost: str = ""


@dataclass(frozen=True, slots=True)
class ForestRow:
    """One line of the forest plot: d = loss(reference) - loss(name), 95 % interval, gate slice."""

    name: str
    role: Literal["candidate", "fused", "uniform", "ensemble", "incumbent"]
    mean: float
    low95: float
    high95: float
    num_examples: int
    num_clusters: int


@dataclass(frozen=True, slots=True)
class AccuracyRow:
    """Accuracy of the fused model against one reference, on the gate slice."""

    reference: str
    role: Literal["incumbent", "best_candidate"]
    change: AccuracyChange


@dataclass(frozen=True, slots=True)
class PublishedFigure:
    """A figure from elsewhere shown beside ours; where it has no such metric, none is shown."""

    source: str
    loss: float
    metrics: Mapping[str, float] = field(default_factory=dict)

    @classmethod
    def from_older(cls, stored: object) -> object:
        """What 0.1 stored, which knew the accuracy alone."""
        if not isinstance(stored, Mapping) or "accuracy" not in stored:
            return stored
        rest = {key: value for key, value in stored.items() if key != "accuracy"}
        return {**rest, "metrics": {"accuracy": stored["accuracy"]}}


@dataclass(frozen=True, slots=True)
class ShownMetric:
    """A column of the report's tables: a metric's name, its title, whether it is in percent."""

    name: str
    title: str
    is_share: bool


# What reports showed before they said so themselves.
OLDER_SHOWN = (
    ShownMetric("accuracy", "accuracy", is_share=True),
    ShownMetric("macro_f1", "macro F1", is_share=False),
)


@dataclass(frozen=True, slots=True)
class RunReport:
    """Everything the report shows. `report.json` is exactly this value.

    Attributes:
        run: name of the run with attempt, such as nightly-2026-11-24.
        recipe: name of the recipe.
        logical_date: logical date of the run: YYYY-MM-DD, or with a time.
        attempt: number of the attempt, from 1.
        created: time of the report, ISO 8601 in UTC.
        version: version of metafuse.
        output: URI of the output.
        model: URI of the fused model.
        verdict: verdict of the gate.
        headline: one sentence: what happened and the figures that it rests on.
        task: kind and data of the task, for people.
        slices: number of examples by slice name.
        rule: rule of the weights, with its parameters.
        effective_models: 1 / sum of squared weights.
        reference: what the forest plot's zero line stands for.
        smallest_effect: smallest gain worth having, as the recipe says.
        candidates: every candidate that was found.
        models: models that were compared on the gate slice.
        forest: lines of the forest plot, in order.
        merge: figures of the merge.
        health: what the fused tensors look like; None where nothing was computed.
        timings: (step, seconds) of each step.
        published: figures from elsewhere.
        sources: pins of the checkpoints that were averaged.
        notes: warnings and remarks.
        commands: (purpose, command) of each command to type next.
        incumbent: name of the run that the model was judged against; "" for none.
        accuracies: accuracy of the fused model against each reference; no part of the verdict.
        shown: metrics in the tables; where there is room for only one, the first.
        loss: what the loss is, for people.
        measure: what the loss is called in a sentence.
        unit: unit of the loss; "" for none.
        floor: what every lower bound had to exceed for a promotion.
        data: evaluation data in figures; None in reports of older releases.
        answers: answers of the fused model by true class, on the gate slice, with the recalls of
            fused model, best candidate and incumbent; () where no model chooses a class.
        examples: examples that changed most between best candidate and fused model; () where the
            recipe wants none.
    """

    run: str
    recipe: str
    logical_date: str
    attempt: int
    created: str
    version: str
    output: str
    model: str
    verdict: Verdict
    headline: str
    task: str
    slices: Mapping[str, int]
    rule: str
    effective_models: float
    reference: str
    smallest_effect: float
    candidates: tuple[CandidateRow, ...]
    models: tuple[ModelRow, ...]
    forest: tuple[ForestRow, ...]
    merge: MergeFigures
    timings: tuple[tuple[str, float], ...]
    published: tuple[PublishedFigure, ...] = ()
    sources: tuple[SourceEntry, ...] = ()
    notes: tuple[str, ...] = ()
    commands: tuple[tuple[str, str], ...] = ()
    incumbent: str = ""
    accuracies: tuple[AccuracyRow, ...] = ()
    health: ModelHealth | None = None
    shown: tuple[ShownMetric, ...] = OLDER_SHOWN
    loss: str = "mean log loss, in nats"
    measure: str = "loss"
    unit: str = ""
    floor: float = 0.0
    data: Survey | None = None
    answers: tuple[Answers, ...] = ()
    examples: tuple[ExampleRow, ...] = ()
    schema: int = SCHEMA
