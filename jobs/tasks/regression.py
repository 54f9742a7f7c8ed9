"""Regression: numbers as truths and as outputs."""

import math
from collections.abc import Mapping, Sequence

import numpy as np

from fusion.scores.records import Floats
from fusion.scores.regression import REGRESSION as SPEC
from fusion.scores.regression import answers, variance
from jobs.errors import DataError
from jobs.tasks.contract import Asked, Batch, Task


def read_numbers(cells: Sequence[object], asked: Asked) -> tuple[float, ...]:
    """The numbers as they stand in the data.

    Raises:
        DataError: a cell that is not a finite number.
    """
    for row, cell in enumerate(cells):
        if isinstance(cell, bool) or not isinstance(cell, int | float) or not math.isfinite(cell):
            raise DataError(
                f"{asked.where}: column {asked.column!r} holds {cell!r:.80} in row {row}, a finite "
                "number is needed; nothing was evaluated",
                "write the column as numbers, or name another one under task.columns.label",
            )
    return tuple(float(str(cell)) for cell in cells)


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
