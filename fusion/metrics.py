"""What predictions are worth: per-example records first, aggregates second."""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt


@dataclass(frozen=True, slots=True, eq=False)
class Records:
    """One checkpoint on one slice, one entry an example, in the order of the slice.

    Attributes:
        ids: n names, unique.
        clusters: n names of the document each example belongs to.
        losses: [n] float64, natural log loss of the true class.
        labels: [n] int64, true class.
        predictions: [n] int64, class of the largest probability.
        probabilities: [n, c] float64.
    """

    ids: tuple[str, ...]
    clusters: tuple[str, ...]
    losses: npt.NDArray[np.float64]
    labels: npt.NDArray[np.int64]
    predictions: npt.NDArray[np.int64]
    probabilities: npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Score:
    """Aggregates of one checkpoint on one slice.

    Attributes:
        name: what was scored.
        slice: rank, select, gate or audit.
        num_examples: n.
        num_clusters: G.
        loss: mean log loss over examples.
        loss_error: its clustered standard error.
        accuracy: share of right predictions.
        macro_f1: mean F1 over classes; a class that never occurs and is never predicted counts 0.
    """

    name: str
    slice: str
    num_examples: int
    num_clusters: int
    loss: float
    loss_error: float
    accuracy: float
    macro_f1: float
