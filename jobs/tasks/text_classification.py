"""Text classification: texts and labels from a pinned file, cut into disjoint slices."""

from collections import Counter
from collections.abc import Sequence
from typing import Any

from jobs.errors import DataError
from jobs.tasks.contract import EvaluationTask
from jobs.tasks.data import HINT, Examples, make_ids, read_column, read_table
from jobs.tasks.slicing import Slices, make_slices, read_slices


def load_examples(task: EvaluationTask) -> Examples:
    """Read the evaluation data; its slices are those of the task, or are made here.

    Raises:
        DataError: unreadable, or a column or value missing.
        SourceChangedError: the file is no longer the pinned one, or its slices are not.
    """
    table = read_table(task)
    texts = read_column(table, task.text, task)
    labels = [str(value) for value in read_column(table, task.label, task)]
    if task.slices is not None:
        sliced = read_slices(task.slices)
    else:
        sliced = _make_slices(table, texts, labels, task)
    return Examples(tuple(texts), tuple(labels), sliced)


def _make_slices(
    table: Any, texts: Sequence[str], labels: Sequence[str], task: EvaluationTask
) -> Slices:
    clusters = [str(v) for v in read_column(table, task.cluster, task)] if task.cluster else texts
    ids = (
        [str(v) for v in read_column(table, task.id, task)] if task.id else make_ids(texts, labels)
    )
    repeated = [name for name, count in Counter(ids).items() if count > 1]
    if repeated:
        raise DataError(f"{task.data}: id {repeated[0]!r:.80} is given more than once", HINT)
    return make_slices(ids, clusters, texts, task.shares)


def label_numbers(
    labels: Sequence[str], model_labels: Sequence[str], *, where: str
) -> tuple[int, ...]:
    """Class numbers of labels: by name, or as whole numbers where no name matches.

    Args:
        labels: as in the data.
        model_labels: the model's, in order.
        where: file and slice, for messages.

    Raises:
        DataError: a label that the model does not have.
    """
    table = {name: number for number, name in enumerate(model_labels)}
    if not any(label in table for label in labels):
        table = {str(number): number for number in range(len(model_labels))}
    for row, label in enumerate(labels):
        if label not in table:
            raise DataError(
                f"{where}: label {label!r:.80} (example {row}) is not one of the model's "
                f"{len(model_labels)} labels {list(model_labels)[:10]}",
                "labels are class names as in id2label, or whole numbers from 0",
            )
    return tuple(table[label] for label in labels)
