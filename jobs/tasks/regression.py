"""Regression: numbers as truths and as outputs."""

import math
from collections.abc import Mapping, Sequence

import numpy as np

from fusion.scores.records import Floats
from fusion.scores.regression import REGRESSION as SPEC
from fusion.scores.regression import answers, variance
from jobs.errors import DataError
from jobs.tasks.contract import Asked, Batch, Task
from jobs.tasks.sniff import count_wrong


def read_numbers(cells: Sequence[object], asked: Asked) -> tuple[float, ...]:
    """The numbers as they stand in the data.

    Raises:
        DataError: a cell that is not a finite number.
    """
    wrong = [row for row, cell in enumerate(cells) if not _is_number(cell)]
    # One word in a column of a format without types makes texts of all its numbers.
    unread = [row for row in wrong if not _is_written_number(cells[row])]
    if wrong:
        rows = unread or wrong
        shown = ", ".join(f"{cells[row]!r:.80}" for row in rows[:3])
        raise DataError(
            f"{asked.where}: column {asked.column!r} holds {shown} in row "
            f"{count_wrong(rows, len(cells), first_line=asked.first_line)}, a finite number is "
            "needed; nothing was evaluated",
            "write the column as numbers, or name another one under task.columns.label",
        )
    return tuple(float(str(cell)) for cell in cells)


def _is_number(cell: object) -> bool:
    return isinstance(cell, int | float) and not isinstance(cell, bool) and math.isfinite(cell)


def _is_written_number(cell: object) -> bool:
    try:
        return isinstance(cell, str) and math.isfinite(float(cell))
    except ValueError:
        return False


def rows(batch: Batch) -> Mapping[str, Floats]:
    """Squared errors; outputs are what the model says, in float64."""
    outputs: Floats = batch.outputs["logits"].double().numpy()
    truth = np.array(batch.truths, dtype=np.float64)
    return {
        **answers(outputs, {"truth": truth}),
        "units": np.ones_like(truth),
        "truth": truth,
        "outputs": outputs,
    }


REGRESSION = Task(spec=SPEC, truths=read_numbers, floor=variance, rows=rows)
