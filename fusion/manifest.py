"""What is written beside a model, and what a run tells."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from fusion.health import ModelHealth
from fusion.metrics import Score
from fusion.verdict import AccuracyChange, Verdict

SCHEMA = 1


@dataclass(frozen=True, slots=True)
class FileEntry:
    """One file of a model.

    Attributes:
        name: key below the model's URI.
        size: bytes.
        sha256: of the bytes where `unit_bytes` is 0; else sha256 over the concatenated binary
            sha256 digests of consecutive ranges of `unit_bytes` (the last one shorter). "" where
            a plain merge was content with the CRC.
        unit_bytes: 0 for small files.
        crc64nvme: of the whole file, 16 hexadecimal digits; "" for small files.
        units: sha256 of each range of `unit_bytes`.
    """

    name: str
    size: int
    sha256: str
    unit_bytes: int = 0
    crc64nvme: str = ""
    units: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class SourceEntry:
    """One input of a merge: which bytes, and with which weight."""

    name: str
    uri: str
    weight: float
    pins: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class ModelManifest:
    """Written last into a model's folder: what is in it and where it came from.

    `base` is the model that sources change which are adapters.
    `health` is None where no tensor was computed. It depends on how many blocks were asked for and
    on the arithmetic of the machine, so it takes no part in whether two manifests tell of the same
    model.
    """

    plan: str
    method: str
    files: tuple[FileEntry, ...]
    sources: tuple[SourceEntry, ...]
    base: SourceEntry | None = None
    notes: tuple[str, ...] = ()
    health: ModelHealth | None = None
    schema: int = SCHEMA


@dataclass(frozen=True, slots=True)
class RunManifest:
    """`runs/{run}/manifest.json`: written after the report, before the pointer moves."""

    run: str
    recipe: str
    logical_date: str
    attempt: int
    recipe_digest: str
    model: str
    model_manifest_sha256: str
    verdict: Verdict
    scores: tuple[Score, ...]
    report_sha256: str
    schema: int = SCHEMA


Action = Literal["promote", "rollback", "hold", "unhold", "gc"]


@dataclass(frozen=True, slots=True)
class PointerChange:
    """Why a pointer is as it is.

    Attributes:
        action: promote (by a run or by hand), rollback, hold, unhold, or gc, which only counts on.
        by: user@host (process) that wrote it.
        at: ISO 8601, UTC.
        reason: for people.
        id: of this one write; tells a writer whose answer was lost that the write is its own.
    """

    action: Action
    by: str
    at: str
    reason: str
    id: str


NO_CHANGE = PointerChange("promote", "", "", "", "")


@dataclass(frozen=True, slots=True)
class Pointer:
    """`latest.json`: which run's model consumers use.

    Attributes:
        recipe: name of the recipe that owns the pointer.
        run: run name (with attempt).
        model: key of the model's folder below the output.
        manifest_sha256: of the run's manifest.
        logical_date: of the run that made the model.
        previous: the run that stood here before this one, "" at first.
        epoch: +1 at every write.
        high_water: largest (logical date, attempt) ever promoted.
        hold: why automatic promotion is off; "" when it is on.
        changed: who wrote it, when and why.
    """

    recipe: str
    run: str
    model: str
    manifest_sha256: str
    logical_date: str
    previous: str
    epoch: int
    high_water: tuple[str, int]
    hold: str = ""
    changed: PointerChange = NO_CHANGE
    schema: int = SCHEMA


Status = Literal["kept", "dropped", "skipped", "failed"]


@dataclass(frozen=True, slots=True)
class CandidateRow:
    """One candidate in the report.

    Attributes:
        name: short name.
        uri: where it is.
        status: kept (in the average), dropped (by selection), skipped (unusable before
            evaluation), failed (evaluation ended with an error).
        reason: why, for people.
        weight: merge weight, None if not kept.
        num_parameters: elements of all tensors (None if unknown).
        num_bytes: of all tensors (None if unknown).
        seconds: measured evaluation time, all slices.
        peak_bytes: resident memory of the process that evaluated it.
        rank: score on the rank slice.
        gate: score on the gate slice.
        health: "" or what the tensors looked like ("absmax 3.1e38 in lstm.weight").
    """

    name: str
    uri: str
    status: Status
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
class HostFigures:
    """A host that computed units of the output, and the digest of its arithmetic probe."""

    host: str
    num_units: int
    arithmetic: str


@dataclass(frozen=True, slots=True)
class MergeFigures:
    """What the merge did; zeros where a resumed run found it done.

    `num_retried` counts the tries beyond the first, of this driver; `hosts` are those of all units.
    """

    method: str
    dtype: str
    plan: str
    num_tensors: int
    num_units: int
    read_bytes: int
    written_bytes: int
    seconds: float
    workers: int
    peak_bytes: int
    num_retried: int = 0
    hosts: tuple[HostFigures, ...] = ()


@dataclass(frozen=True, slots=True)
class PublishedFigure:
    """A figure from elsewhere shown beside ours."""

    source: str
    loss: float
    accuracy: float


@dataclass(frozen=True, slots=True)
class RunReport:
    """Everything the report shows. `report.json` is exactly this value.

    Attributes:
        run: name with attempt, such as nightly-2026-11-24.
        recipe: name of the recipe.
        logical_date: YYYY-MM-DD, or with a time.
        attempt: from 1.
        created: ISO 8601, UTC.
        version: of metafuse.
        output: URI of the output.
        model: URI of the fused model.
        verdict: of the gate.
        headline: one sentence: what happened and the figures it rests on.
        task: kind and data, for people.
        slices: examples a slice.
        rule: of the weights, with its parameters.
        effective_models: 1 / sum of squared weights.
        reference: what the forest plot's zero line is.
        smallest_effect: smallest gain worth having, by the recipe.
        candidates: every one that was found.
        models: compared on the gate slice.
        forest: lines of the forest plot, in order.
        merge: what it did.
        health: what the fused tensors look like.
        timings: (step, seconds).
        published: figures from elsewhere.
        sources: pins of what was averaged.
        notes: warnings and remarks.
        commands: what to type next: (what for, command).
        incumbent: run that it was judged against, "" for none.
        accuracies: of the fused model against each reference; no part of the verdict.
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
    schema: int = SCHEMA
