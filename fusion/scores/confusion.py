"""What a classifier answered for every true class, with rare classes folded into one."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from fusion.scores.records import Floats, Records


@dataclass(frozen=True, slots=True)
class Answers:
    """The examples of one true class, or of all rare ones together.

    Attributes:
        label: name of the class.
        num_examples: number of examples whose truth it is.
        recalls: share of them that each model answered rightly; () where there are none.
        given: number of them by the first model's answer, in the order of the rows.
    """

    label: str
    num_examples: int
    recalls: tuple[float, ...]
    given: tuple[int, ...]


def count_answers(
    models: Sequence[Records], labels: Sequence[str], *, most: int
) -> tuple[Answers, ...]:
    """One row a class that is true or answered, the most frequent first.

    Args:
        models: records of models on the same examples, with columns "truth" and "prediction".
        labels: names of all classes, by number.
        most: number of rows; more classes than that share the last one.
    """
    truth, answered = _column(models[0], "truth"), _column(models[0], "prediction")
    counts = np.bincount(truth, minlength=len(labels))
    seen = counts + np.bincount(answered, minlength=len(labels))
    order = [int(c) for c in np.lexsort((np.arange(len(labels)), -seen, -counts)) if seen[c]]
    own = order if len(order) <= most else order[: most - 1]
    names = [labels[c] for c in own]
    if len(own) < len(order):
        names.append(f"{len(order) - len(own)} others")
    group = np.full(len(labels), len(names) - 1)
    group[own] = np.arange(len(own))
    matrix = np.zeros((len(names), len(names)), dtype=np.int64)
    np.add.at(matrix, (group[truth], group[answered]), 1)
    rights = [_column(records, "prediction") == truth for records in models]
    return tuple(
        Answers(
            name,
            int((group[truth] == place).sum()),
            tuple(_share(right, group[truth] == place) for right in rights if matrix[place].sum()),
            tuple(int(count) for count in matrix[place]),
        )
        for place, name in enumerate(names)
    )


def _column(records: Records, name: str) -> npt.NDArray[np.int64]:
    found: Floats = records.columns[name]
    return found.astype(np.int64)


def _share(right: npt.NDArray[np.bool_], chosen: npt.NDArray[np.bool_]) -> float:
    return float(right[chosen].mean())
