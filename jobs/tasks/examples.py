"""The examples of a task: its columns read and checked, cut into disjoint slices."""

from collections import Counter
from collections.abc import Sequence
from typing import Any

from fusion.scores.contract import TaskSpec
from jobs.errors import DataError
from jobs.tasks.contract import Asked, EvaluationTask
from jobs.tasks.data import Examples, make_ids, read_column
from jobs.tasks.data_files import read_table
from jobs.tasks.find_task import find_task
from jobs.tasks.slicing import Slices, make_slices, read_slices
from jobs.tasks.sniff import count_wrong
from jobs.tasks.table import HINT, Table


def load_examples(task: EvaluationTask) -> Examples:
    """Read the evaluation data; its slices are those of the task, or are made here.

    Raises:
        DataError: unreadable, or a column or value missing.
        RecipeError: a kind that cannot be imported.
        SourceChangedError: the file is no longer the pinned one, or its slices are not.
    """
    table = read_table(task)
    spec = find_task(task.kind).spec
    columns = {role: read_column(table, task, role, spec) for role in task.columns}
    cells = columns.pop(spec.truth)
    texts = _texts(columns, spec, len(cells))
    inputs = ({role: values[i] for role, values in columns.items()} for i in range(len(cells)))
    if task.slices is not None:
        sliced = read_slices(task.slices)
    else:
        sliced = _make_slices(table, texts, cells, task)
    truth = task.columns[spec.truth]
    written = tuple(table.texts[truth]) if truth in table.texts else ()
    return Examples(tuple(inputs), tuple(texts), tuple(cells), sliced, written, table.first_line)


def _make_slices(
    table: Table, texts: Sequence[str], cells: Sequence[object], task: EvaluationTask
) -> Slices:
    spec = find_task(task.kind).spec
    clusters = _names(table, task, "cluster", spec) if task.cluster else texts
    ids = _names(table, task, "id", spec) if task.id else make_ids(texts, cells)
    if task.id in table.texts and len(set(ids)) < len(ids):
        ids = table.written(task.id)  # a guess made 007 and 7 one
    counts = Counter(ids)
    repeated = [row for row, name in enumerate(ids) if counts[name] > 1]
    if repeated:
        one = [row for row in repeated if ids[row] == ids[repeated[0]]]
        shown, every = (
            count_wrong(rows, len(ids), place=table.place, first_line=first)
            for rows, first in ((one, table.first_line), (repeated, 0))
        )
        raise DataError(
            f"{task.data}: column {task.id!r}: id {ids[one[0]]!r:.80} is given more than once, in "
            f"row {shown}; ids repeat in row {every}",
            HINT,
        )
    return make_slices(ids, clusters, texts, task.shares)


def read_truths(
    examples: Examples, task: EvaluationTask, labels: tuple[str, ...]
) -> tuple[object, ...]:
    """What the truths of all examples mean to a model with these labels.

    Raises:
        DataError: a value that means nothing, in any slice.
    """
    kind = find_task(task.kind)
    asked = Asked(labels, task.labels, task.data, task.columns[kind.spec.truth],
                  examples.written, examples.first_line)  # fmt: skip
    return tuple(kind.truths(examples.cells, asked))


def _texts(columns: dict[str, list[Any]], spec: TaskSpec, count: int) -> list[str]:
    """All texts of each example, as one: what tells whether two examples are nearly the same."""
    texts = [values for role, values in columns.items() if spec.columns[role] == "text"]
    return ["\n".join(row) for row in zip(*texts, strict=True)] or [""] * count


def _names(table: Table, task: EvaluationTask, role: str, spec: TaskSpec) -> list[str]:
    return [str(value) for value in read_column(table, task, role, spec)]
