"""Paired differences between models, with honest errors."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from scipy.special import bdtr, ndtri, stdtrit

from fusion.evidence.verdict import AccuracyChange
from fusion.scores.records import Floats, Records, clustered_error, influence, summed_error


@dataclass(frozen=True, slots=True)
class Difference:
    """Mean of paired per-example differences.

    Attributes:
        mean: mean of the reference's value minus the model's.
        standard_error: clustered standard error of the mean; nan for a single cluster.
        num_examples: number of examples, n.
        num_clusters: number of clusters, G.
    """

    mean: float
    standard_error: float
    num_examples: int
    num_clusters: int

    @property
    def degrees(self) -> int:
        """Degrees of freedom of the t distribution, G - 1."""
        return self.num_clusters - 1


def paired_difference(reference: Records, model: Records) -> Difference:
    """loss(reference) - loss(model): positive where the model is better.

    The error is that of the difference of two ratios, linearised; for units of 1 it is that of the
    mean of d_e = loss_e(reference) - loss_e(model).

    Raises:
        ValueError: the records are not of the same examples in the same order.
    """
    if reference.ids != model.ids:
        raise ValueError("paired differences need the same examples in the same order")
    return Difference(
        mean=reference.loss - model.loss,
        standard_error=summed_error(influence(reference) - influence(model), model.clusters),
        num_examples=len(model.ids),
        num_clusters=len(set(model.clusters)),
    )


def difference_of(differences: Floats, clusters: Sequence[str]) -> Difference:
    """Mean and clustered error of per-example differences."""
    return Difference(
        mean=float(differences.mean()),
        standard_error=clustered_error(differences, clusters),
        num_examples=len(differences),
        num_clusters=len(set(clusters)),
    )


def lower_bound(difference: Difference, alpha: float) -> float:
    """One-sided lower confidence bound, mean - t_{1-alpha, G-1} SE."""
    return difference.mean - _quantile(difference.degrees, alpha) * difference.standard_error


def upper_bound(difference: Difference, alpha: float) -> float:
    """One-sided upper confidence bound."""
    return difference.mean + _quantile(difference.degrees, alpha) * difference.standard_error


def interval(difference: Difference, confidence: float = 0.95) -> tuple[float, float]:
    """Two-sided confidence interval."""
    alpha = (1 - confidence) / 2
    return lower_bound(difference, alpha), upper_bound(difference, alpha)


def detectable(standard_error: float, *, alpha: float, power: float = 0.8) -> float:
    """Smallest true effect that a one-sided test at `alpha` sees with this power.

    (z_{1-alpha} + z_{power}) SE: 2.486 SE at 0.05 and 0.8.
    """
    return float(-ndtri(alpha) + ndtri(power)) * standard_error


FEW_DISCORDANT = 25


def accuracy_change(
    reference: Records, model: Records, is_right: Callable[[Records], Floats]
) -> AccuracyChange:
    """Compare the accuracies of two models, example by example.

    Args:
        reference: records of the reference.
        model: records of the model that is compared with the reference, on the same examples in
            order.
        is_right: gives 1 for each example that was answered rightly, else 0.

    Raises:
        ValueError: the records are not of the same examples in the same order.

    Source: McNemar 1947; exact by the binomial distribution of the discordant pairs.
    """
    if reference.ids != model.ids:
        raise ValueError("paired differences need the same examples in the same order")
    right, before = is_right(model), is_right(reference)
    gained, lost = int((right > before).sum()), int((before > right).sum())
    difference = difference_of(right - before, model.clusters)
    low, high = interval(difference)
    differing = gained + lost
    p_value = None
    if differing < FEW_DISCORDANT:
        p_value = min(1.0, 2 * float(bdtr(min(gained, lost), differing, 0.5)))
    return AccuracyChange(difference.mean, low, high, gained, lost, p_value)


def _quantile(degrees: int, alpha: float) -> float:
    return float(stdtrit(degrees, 1 - alpha)) if degrees > 0 else float("nan")
