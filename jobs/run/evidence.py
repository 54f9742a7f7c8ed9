"""What a report shows of the evaluation data: figures, classes, the examples that changed most."""

from dataclasses import dataclass

from cluster.errors import ClusterError
from fusion.evidence.changes import find_changes
from fusion.manifests.survey import ExampleRow, Survey
from fusion.scores.confusion import Answers, count_answers
from jobs.candidates.heads import check_head
from jobs.errors import DataError, SourceChangedError
from jobs.run.context import RunContext
from jobs.run.judge import Judged
from jobs.run.names import INCUMBENT
from jobs.run.survey import survey
from jobs.run.witness import Witness
from jobs.tasks.data import Examples
from jobs.tasks.examples import load_examples, read_truths
from jobs.tasks.find_task import find_task

MOST_CLASSES = 12
LONGEST_TEXT = 240


@dataclass(frozen=True, slots=True)
class Evidence:
    """The evaluation data as a report shows it.

    Attributes:
        survey: the data in figures; None where the data could not be read once more.
        answers: answers of the fused model by true class, with the recalls of fused model, best
            candidate and incumbent; () where no model chooses a class.
        examples: examples that changed most between best candidate and fused model.
        notes: why anything of it is missing.
    """

    survey: Survey | None
    answers: tuple[Answers, ...]
    examples: tuple[ExampleRow, ...]
    notes: tuple[str, ...] = ()


def find_evidence(context: RunContext, witness: Witness, judged: Judged) -> Evidence:
    """What the models said of the data, which is read once more.

    The verdict does not hang on it: where the data has changed meanwhile, or is gone, its figures
    and examples are left out, and a note says so.
    """
    first = context.candidates[0]
    labels = check_head(first, find_task(context.task.kind).spec.head)
    answers = _count(context, witness, judged, labels)
    try:
        examples = load_examples(context.task)
    except (SourceChangedError, DataError, ClusterError) as error:
        why = str(error).splitlines()[0]
        note = f"figures and examples of the evaluation data are left out: {why}"
        return Evidence(None, answers, (), (note,))
    return Evidence(
        survey(first, examples, context.task),
        answers,
        _changed(context, witness, judged, examples, labels),
    )


def write_truth(truth: object, labels: tuple[str, ...] = ()) -> str:
    """A truth as text: the name of a class, those of several, a number with six digits."""
    if isinstance(truth, tuple):
        return ", ".join(labels[number] for number in truth) or "none"
    if labels and isinstance(truth, int):
        return labels[truth]
    return f"{truth:.6g}" if isinstance(truth, float) else str(truth)


def _count(
    context: RunContext, witness: Witness, judged: Judged, labels: tuple[str, ...]
) -> tuple[Answers, ...]:
    records = judged.records
    models = [records[witness.fused.checkpoint.name], records[witness.chosen.best]]
    models += [records[INCUMBENT]] if INCUMBENT in records else []
    is_chosen = find_task(context.task.kind).spec.head == "classes"
    is_told = all({"truth", "prediction"} <= found.columns.keys() for found in models)
    if not is_chosen or not is_told or any(m.ids != models[0].ids for m in models):
        return ()
    return count_answers(models, labels, most=MOST_CLASSES)


def _changed(
    context: RunContext, witness: Witness, judged: Judged, examples: Examples,
    labels: tuple[str, ...],
) -> tuple[ExampleRow, ...]:  # fmt: skip
    most = context.recipe.report.examples
    if not most:
        return ()
    records = judged.records
    changes = find_changes(
        records[witness.chosen.best], records[witness.fused.checkpoint.name], most=most
    )
    row = {name: place for place, name in enumerate(examples.ids)}
    truths: tuple[object, ...] = examples.cells
    if labels:
        truths = read_truths(examples, context.task, labels)
    return tuple(
        ExampleRow(
            change.id,
            _shorten(write_truth(truths[row[change.id]], labels)),
            change.loss_reference,
            change.loss_model,
            _shorten(examples.texts[row[change.id]]),
        )
        for change in changes
        if change.id in row
    )


def _shorten(text: str) -> str:
    line = " ".join(text.split())
    return line if len(line) <= LONGEST_TEXT else line[: LONGEST_TEXT - 1] + "…"
