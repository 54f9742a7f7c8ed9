"""What evaluation data looks like before a model is loaded: for `plan`, for people."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from fusion.checkpoints.checkpoint import Checkpoint
from fusion.scores.slices import SLICES
from jobs.candidates.heads import check_head
from jobs.console.figures import plural
from jobs.models.lengths import count_lengths, find_most
from jobs.tasks.contract import EvaluationTask
from jobs.tasks.data import Examples
from jobs.tasks.examples import read_truths
from jobs.tasks.find_task import find_task

MOST_CLASSES = 12


@dataclass(frozen=True, slots=True)
class Survey:
    """Evaluation data in figures.

    Attributes:
        num_rows: number of rows.
        num_clusters: number of clusters, of which none is cut by a slice.
        slices: number of examples by the name of the slice.
        num_repeated: number of examples in no slice, as they nearly repeat one of another slice.
        num_shared: number of examples of audit that nearly repeat one of gate.
        classes: number of rows by label, of models that choose one; of a file without any, 0.
        median_tokens: number of tokens of a middling example.
        high_tokens: number of tokens that 95 % of the examples do not exceed.
        most_tokens: number of tokens of the longest example that was counted.
        limit: number of tokens that the models read; None where memory alone is the limit.
        num_cut: number of examples that are longer.
        is_estimate: whether lengths are estimated, from characters or from a part of the rows.
        num_copies: number of rows that repeat an earlier row word for word.
        num_contradicting: number of texts that stand with more than one label.
    """

    num_rows: int
    num_clusters: int
    slices: dict[str, int]
    num_repeated: int
    num_shared: int
    classes: dict[str, int]
    median_tokens: int
    high_tokens: int
    most_tokens: int
    limit: int | None
    num_cut: int
    is_estimate: bool
    num_copies: int
    num_contradicting: int


def survey(checkpoint: Checkpoint, examples: Examples, task: EvaluationTask) -> Survey:
    """Look at the data as one of the candidates would read it; costs a second or two.

    Args:
        checkpoint: one of the candidates, which agree on tokenizer, labels and length.
        examples: the evaluation data.
        task: what it is for.
    """
    kind = find_task(task.kind)
    labels = check_head(checkpoint, kind.spec.head)
    classes: dict[str, int] = {}
    pairs = list(zip(examples.texts, map(repr, examples.cells), strict=True))
    if kind.spec.head == "classes":
        found = Counter(read_truths(examples, task, labels))
        classes = {label: found[number] for number, label in enumerate(labels)}
    lengths = count_lengths(checkpoint, examples.inputs)
    counts = lengths.counts
    # Windows are cut of what is too long, where the kind of task makes them: nothing is lost.
    limit = find_most(checkpoint.config, task.max_length) if kind.stride is None else None
    num_cut = sum(count > limit for count in counts) * lengths.step if limit else 0
    return Survey(
        num_rows=len(examples.ids),
        num_clusters=len(set(examples.clusters)),
        slices={name: examples.sliced.counts.get(name, 0) for name in SLICES},
        num_repeated=examples.sliced.num_repeated,
        num_shared=examples.sliced.num_shared,
        classes=classes,
        median_tokens=counts[len(counts) // 2],
        high_tokens=counts[int(0.95 * (len(counts) - 1))],
        most_tokens=counts[-1],
        limit=limit,
        num_cut=num_cut,
        is_estimate=lengths.is_estimate or lengths.step > 1,
        num_copies=len(pairs) - len({*pairs}),
        num_contradicting=_count_several(pairs) if kind.spec.head == "classes" else 0,
    )


def _count_several(pairs: Sequence[tuple[str, str]]) -> int:
    """Number of texts that stand with more than one truth."""
    texts = Counter(text for text, _ in {*pairs})
    return sum(count > 1 for count in texts.values())


def describe_survey(found: Survey) -> Sequence[tuple[str, str]]:
    """Lines of a table: (name, text)."""
    slices = ", ".join(f"{name} {count:,}" for name, count in found.slices.items())
    near = (
        f"; {plural(found.num_repeated, 'near-duplicate')} left out" if found.num_repeated else ""
    )
    if found.num_shared:
        near += f"; {found.num_shared:,} of audit nearly repeat one of gate"
    lines = [
        ("data", f"{found.num_rows:,} rows in {found.num_clusters:,} clusters: {slices}{near}")
    ]
    if found.num_copies:
        different = found.num_rows - found.num_copies
        said = (
            f"{found.num_copies:,} of {found.num_rows:,} rows repeat an earlier one word for word"
        )
        lines.append(("repeats", f"{said}: {different:,} are different"))
    if found.num_contradicting:
        lines.append(
            ("labels", f"{found.num_contradicting:,} texts stand with more than one label")
        )
    if found.classes:
        lines.append(("classes", _describe_classes(found)))
    about = "about " if found.is_estimate else ""
    read = "" if found.limit is None else f"; {found.limit:,} are read"
    cut = f", {about}{plural(found.num_cut, 'text')} of {found.num_rows:,} cut" if read else ""
    text = (
        f"tokens: {about}{found.median_tokens:,} in the middle, 95 % up to "
        f"{found.high_tokens:,}, the longest {found.most_tokens:,}{read}{cut}"
    )
    lines.append(("lengths", text))
    if found.is_estimate:
        lines.append(("", "lengths are an estimate, from characters or from a part of the rows"))
    return lines


def _describe_classes(found: Survey) -> str:
    ranked = sorted(found.classes.items(), key=lambda entry: -entry[1])
    parts = [f"{label} {100 * count / found.num_rows:.1f} %" for label, count in ranked if count]
    absent = sum(not count for count in found.classes.values())
    more = f", and {len(parts) - MOST_CLASSES} more" if len(parts) > MOST_CLASSES else ""
    never = f"; {plural(absent, 'label')} never" if absent else ""
    return ", ".join(parts[:MOST_CLASSES]) + more + never
