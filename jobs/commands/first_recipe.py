"""A first recipe from candidates and data that are looked at; no tensor byte is read."""

import posixpath
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from fusion.checkpoints.checkpoint import Checkpoint, num_bytes, num_parameters
from fusion.checkpoints.heads import find_head, read_labels
from fusion.evidence.gate import SMALLEST_EXAMPLES
from fusion.scores.contract import TaskSpec
from fusion.scores.records import Floats, Records
from fusion.scores.specs import TASK_SPECS
from jobs.candidates.find import Found, find_candidates
from jobs.candidates.heads import DOES
from jobs.candidates.patterns import WILD, expand_pattern
from jobs.console.figures import list_some
from jobs.console.sizes import format_size
from jobs.errors import DataError, ModelError, NoCandidatesError
from jobs.recipes.draft import Draft, format_draft, recipe_name
from jobs.recipes.recipe import parse_recipe
from jobs.recipes.task_fields import SliceShares
from jobs.run.prepare import make_task
from jobs.tasks.contract import DataFile
from jobs.tasks.data import Examples
from jobs.tasks.data_files import find_data, read_files
from jobs.tasks.examples import load_examples, read_truths
from jobs.tasks.find_task import find_task
from jobs.tasks.guess_columns import guess_columns
from jobs.tasks.labels import label_key, write_meanings

NAMED = 8  # candidates that a comment names
# A gain that is a smaller share of what the truths' distribution loses is hardly one.
EFFECT_SHARE = 0.01
# For data of which the usual share could not decide.
FEW = {"rank": 0.35, "select": 0.05, "gate": 0.55, "audit": 0.05}
ENOUGH = 1.1  # times as many examples, since a hash deals them out


@dataclass(frozen=True, slots=True)
class Wanted:
    """What a first recipe is wanted for.

    Attributes:
        places: folders, prefixes or patterns of candidates.
        data: files of labelled examples; () for none.
        base: model that adapters change; None for none.
        output: place of the results; None for one beside the candidates.
    """

    places: Sequence[str]
    data: Sequence[str] = ()
    base: str | None = None
    output: str | None = None


def draft_recipe(wanted: Wanted) -> tuple[Draft, Found]:
    """What the recipe says, and the candidates that it was made from.

    Raises:
        NoCandidatesError: no usable checkpoint is there.
        ModelError: no kind of task asks such models.
        DataError: the data cannot be read, or no column of it fits.
    """
    candidates = [place for named in wanted.places for place in _widened(named)]
    found = find_candidates(
        candidates, settle_seconds=0, now=time.time(), on_refused="drop", base=wanted.base
    )
    if not found.candidates:
        lines = [f"  {entry.name}: {entry.code} {entry.reason}" for entry in found.skipped]
        raise NoCandidatesError(
            "no checkpoint there is usable:\n" + "\n".join(lines) + "\nNo recipe was written.",
            "mend one of them, or name other folders; --base MODEL for adapters",
        )
    spec = _choose_kind(found.candidates[0])
    draft = Draft(
        name=recipe_name(posixpath.basename(_root(candidates[0]))),
        candidates=candidates,
        output=wanted.output or _beside(candidates[0]),
        kind=spec.kind,
        columns={role: role for role in spec.columns if role not in spec.optional},
        base=wanted.base,
        remarks={
            "candidates": _describe(found),
            "gate": f"The smallest gain worth having, in units of the loss ({spec.loss}).",
        },
    )
    if not wanted.data:
        return draft, found
    labels = read_labels(found.candidates[0].config) or ()
    return _with_data(draft, wanted.data, spec, labels), found


def _with_data(draft: Draft, data: Sequence[str], spec: TaskSpec, labels: tuple[str, ...]) -> Draft:
    """The draft with columns, labels, slices and gate as the data suggests."""
    pinned = find_data(data[0] if len(data) == 1 else tuple(data))
    table = read_files(pinned.files or (DataFile(pinned.data, pinned.pin),), ())
    columns = guess_columns(table, spec, labels if spec.head == "classes" else ())
    lacking = [r for r in spec.columns if r not in columns and r not in spec.optional]
    if lacking:
        raise DataError(
            f"{pinned.data}: none of the columns {list(table.names)} looks like "
            f"{' and '.join(lacking)} of {spec.kind}. No recipe was written.",
            "leave --data out and name data and columns in the recipe yourself",
        )
    draft = replace(draft, data=data, columns=columns)
    task = make_task(parse_recipe(format_draft(draft), name="recipe", folder=str(Path.cwd())))
    examples = load_examples(task)
    truths: Sequence[object] | None
    try:
        truths = read_truths(examples, task, labels)
        meanings: Sequence[tuple[str, str]] = ()
    except DataError:
        truths = None
        cells = examples.written or examples.cells
        meanings = write_meanings({label_key(cell): cell for cell in cells}, labels)
    remarks = dict(draft.remarks)
    if meanings:
        names = ", ".join(labels)
        remarks["labels"] = f"A guess, to be looked at. Labels of the models: {names}."
    shares = _shares(len(examples.ids))
    if shares:
        remarks["slices"] = f"So that at least {SMALLEST_EXAMPLES} examples decide."
    gate = (shares or SliceShares().model_dump())["gate"]
    remarks["data"] = (
        f"{len(examples.ids):,} rows, of which about {100 * gate:.0f} % decide (gate)."
    )
    effect = draft.smallest_effect
    if truths is not None:
        floor = find_task(draft.kind).floor(_as_records(examples, truths))
        effect = _rounded(EFFECT_SHARE * floor)
        remarks["gate"] += f"\nWho knew only {spec.floor} would have {floor:.3g}."
    return replace(draft, labels=meanings, slices=shares, smallest_effect=effect, remarks=remarks)


def _widened(place: str) -> Sequence[str]:
    """The patterns for what somebody named: the folder, what is in it, or what is further down."""
    if WILD.search(place):
        return (place,)
    plain, found = place.rstrip("/") or "/", expand_pattern(place)
    if found.uris == (found.place,):
        below = f"{plain}/*"  # a trainer leaves its last model above its checkpoints
        return (plain, below) if expand_pattern(below).uris else (plain,)
    deep = f"{plain}/**"
    return (deep,) if not found.uris and expand_pattern(deep).uris else (place,)


def _choose_kind(candidate: Checkpoint) -> TaskSpec:
    head = find_head(candidate.config)
    kinds = [spec for spec in TASK_SPECS.values() if spec.head == head]
    if not kinds:
        what = f"{candidate.name} {DOES[head]}" if head else f"{candidate.name} has no head"
        raise ModelError(
            f"{what}; kinds of task: {', '.join(TASK_SPECS)}. No recipe was written.",
            "metafuse merge averages models of any kind, without an evaluation",
        )
    return kinds[0]


def _describe(found: Found) -> str:
    first = found.candidates[0]
    names = list_some([candidate.name for candidate in found.candidates], NAMED)
    size = f"{num_parameters(first):,} parameters, {format_size(num_bytes(first))} each"
    return f"Found now: {names} ({size})."


def _shares(count: int) -> Mapping[str, float]:
    """Shares by which the gate can decide, where the usual ones are too small for it; else {}."""
    needed = ENOUGH * SMALLEST_EXAMPLES
    return FEW if SliceShares().gate * count < needed <= FEW["gate"] * count else {}


def _as_records(examples: Examples, truths: Sequence[object]) -> Records:
    values: Floats = np.array(truths, dtype=np.float64)
    return Records(
        ids=examples.ids,
        clusters=examples.clusters,
        losses=np.zeros_like(values),
        units=np.ones_like(values),
        columns={"truth": values},
    )


def _rounded(value: float) -> float:
    """One significant digit."""
    return float(f"{value:.0e}")


def _root(pattern: str) -> str:
    """The part of a pattern before its first wildcard."""
    parts = pattern.rstrip("/").split("/")
    wild = [index for index, part in enumerate(parts) if WILD.search(part)]
    return "/".join(parts[: wild[0]] if wild else parts)


def _beside(pattern: str) -> str:
    """Where results go by themselves: "merged" beside the candidates on S3, else here."""
    if "://" not in pattern:
        return "merged"
    root = _root(pattern)
    bucket = root.count("/") < 3
    return f"{root if bucket else root.rpartition('/')[0]}/merged"
