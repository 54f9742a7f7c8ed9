"""One row an example: what a checkpoint left on a slice, and the error of a ratio over it."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]
# Of one cluster no error can be estimated.
SMALLEST_CLUSTERS = 2
OLDER_METRICS = ("accuracy", "macro_f1", "confidence", "brier")


@dataclass(frozen=True, slots=True, eq=False)
class Records:
    """One checkpoint on one slice, one entry an example, in the order of the slice.

    The loss is the sum of the losses over the sum of the units, so a mean over tokens or bytes is
    one as well.

    Attributes:
        ids: n unique names of the examples.
        clusters: n names of the document each example belongs to.
        losses: [n] loss of each example, summed over its units.
        units: [n] units of each example: 1 where it counts once, else its tokens or bytes of text.
        columns: further figures by name, [n] or [n, k] each; "truth" and "prediction" where a kind
            has them.
        outputs: [n, c] what an ensemble averages (probabilities, values); None where there is
            nothing to average.
    """

    ids: tuple[str, ...]
    clusters: tuple[str, ...]
    losses: Floats
    units: Floats
    columns: Mapping[str, Floats] = field(default_factory=dict)
    outputs: Floats | None = None

    @property
    def loss(self) -> float:
        """Sum of the losses over the sum of the units."""
        return float(self.losses.sum() / self.units.sum())


@dataclass(frozen=True, slots=True)
class Score:
    """Aggregates of one checkpoint on one slice.

    Attributes:
        name: name of the checkpoint that was scored.
        slice: name of the slice: rank, select, gate or audit.
        num_examples: number of examples, n.
        num_clusters: number of clusters, G.
        loss: sum of losses divided by the sum of units.
        loss_error: clustered standard error of the loss.
        metrics: other figures of the kind, by name.
    """

    name: str
    slice: str
    num_examples: int
    num_clusters: int
    loss: float
    loss_error: float
    metrics: Mapping[str, float] = field(default_factory=dict)

    @classmethod
    def from_older(cls, stored: object) -> object:
        """What 0.1 stored, whose metrics were fields of the score, in the shape of today."""
        if not isinstance(stored, Mapping) or not stored.keys() & set(OLDER_METRICS):
            return stored
        rest = {key: value for key, value in stored.items() if key not in OLDER_METRICS}
        return {**rest, "metrics": {key: stored[key] for key in OLDER_METRICS if key in stored}}


def influence(records: Records) -> Floats:
    """[n]: what each example adds to the error of the loss, (l_e - L u_e) / sum(u).

    Source: linearised ratio estimator, Cochran 1977, Sampling techniques, section 6.4.
    """
    spread: Floats = (records.losses - records.loss * records.units) / records.units.sum()
    return spread


def ratio_error(records: Records) -> float:
    """Clustered standard error of the loss; for units of 1 that of a mean."""
    return summed_error(influence(records), records.clusters)


def clustered_error(values: Floats, clusters: Sequence[str]) -> float:
    """Standard error of a mean whose terms are dependent within clusters; nan for one cluster."""
    return summed_error((values - values.mean()) / len(values), clusters)


def summed_error(parts: Floats, clusters: Sequence[str]) -> float:
    """Standard error of a sum of terms of mean 0 that are dependent within clusters.

    SE^2 = G / (G - 1) * sum_g (sum_{e in g} parts_e)^2; nan for one cluster.

    Source: Miller 2024, Adding error bars to evals, arXiv:2411.00640, section 2.2.
    """
    _, member = np.unique(np.asarray(clusters), return_inverse=True)
    groups = int(member.max()) + 1
    if groups < SMALLEST_CLUSTERS:
        return math.nan
    sums = np.bincount(member, weights=parts)
    return float(np.sqrt(groups / (groups - 1) * (sums**2).sum()))
