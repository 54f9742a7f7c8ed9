"""One row an example: what a checkpoint left on a slice, and the error of a mean of it."""

import math
from collections.abc import Sequence
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
        confidence: mean probability of the predicted class; above the accuracy: overconfident.
        brier: mean over examples of the squared distance of the probabilities from the truth.
    """

    name: str
    slice: str
    num_examples: int
    num_clusters: int
    loss: float
    loss_error: float
    accuracy: float
    macro_f1: float
    confidence: float = math.nan
    brier: float = math.nan


# Of one cluster no error can be estimated.
SMALLEST_CLUSTERS = 2


def clustered_error(values: npt.NDArray[np.float64], clusters: Sequence[str]) -> float:
    """Standard error of a mean whose terms are dependent within clusters.

    SE^2 = G / (G - 1) * sum_g (sum_{e in g} (v_e - mean))^2 / n^2; nan for one cluster.

    Source: Miller 2024, Adding error bars to evals, arXiv:2411.00640, section 2.2.
    """
    _, member = np.unique(np.asarray(clusters), return_inverse=True)
    groups = int(member.max()) + 1
    if groups < SMALLEST_CLUSTERS:
        return float("nan")
    sums = np.bincount(member, weights=values - values.mean())
    return float(np.sqrt(groups / (groups - 1) * (sums**2).sum()) / len(values))
