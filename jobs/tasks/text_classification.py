"""Text classification: texts and labels from a pinned file, cut into disjoint slices."""

import hashlib
from collections import Counter
from collections.abc import Sequence

from fusion.scores.slices import (
    assign_slice,
    canonical_text,
    find_gate_repeats,
    find_near_duplicates,
)
from jobs.errors import DataError
from jobs.tasks.contract import EvaluationTask
from jobs.tasks.data import HINT, Examples, make_ids, read_column, read_table


def load_examples(task: EvaluationTask) -> Examples:
    """Read and slice the evaluation data.

    Raises:
        DataError: unreadable, or a column or value missing.
        SourceChangedError: the file is no longer the pinned one.
    """
    table = read_table(task)
    texts = read_column(table, task.text, task)
    labels = [str(value) for value in read_column(table, task.label, task)]
    clusters = [str(v) for v in read_column(table, task.cluster, task)] if task.cluster else texts
    ids = (
        [str(v) for v in read_column(table, task.id, task)] if task.id else make_ids(texts, labels)
    )
    repeated = [name for name, count in Counter(ids).items() if count > 1]
    if repeated:
        raise DataError(f"{task.data}: id {repeated[0]!r:.80} is given more than once", HINT)
    slices = [assign_slice(cluster, task.shares) for cluster in clusters]
    dropped = find_near_duplicates(texts, slices)
    kept = tuple("" if i in dropped else name for i, name in enumerate(slices))
    digests = tuple(
        hashlib.sha256(canonical_text(cluster).encode(errors="replace")).hexdigest()[:16]
        for cluster in clusters
    )
    return Examples(
        tuple(ids),
        digests,
        tuple(texts),
        tuple(labels),
        kept,
        len(dropped),
        len(find_gate_repeats(texts, slices)),
    )


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
