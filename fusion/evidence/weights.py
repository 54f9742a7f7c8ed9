"""Losses -> weights."""

import math
from collections.abc import Mapping, Sequence

from fusion.errors import WeightError
from fusion.nearest import ask_meant


def softmax_weights(losses: Sequence[float], *, temperature: float = 1.0) -> tuple[float, ...]:
    """w_i = exp(-L_i / T) / sum_j exp(-L_j / T).

    T = 1 is the founding formula. Only differences of losses count, so the smallest is subtracted
    first and nothing overflows. T = 0 takes the best alone (ties share), T = inf is uniform.

    Args:
        losses: n finite mean losses.
        temperature: T, at least 0.

    Returns:
        n weights that sum to 1.

    Raises:
        WeightError: no loss, or one that is not finite.
        ValueError: T is negative or nan.
    """
    if not temperature >= 0:
        raise ValueError(f"temperature must be at least 0, got {temperature}")
    if not losses or not all(map(math.isfinite, losses)):
        raise WeightError(f"weights need finite losses, found {list(losses)}")
    best = min(losses)
    if temperature == 0:
        raw = [1.0 if loss == best else 0.0 for loss in losses]
    else:
        raw = [math.exp((best - loss) / temperature) for loss in losses]
    total = math.fsum(raw)
    return tuple(value / total for value in raw)


def uniform_weights(count: int) -> tuple[float, ...]:
    """1 / n for each of n."""
    if count < 1:
        raise WeightError("an average needs at least one model")
    return (1.0 / count,) * count


def fixed_weights(names: Sequence[str], values: Mapping[str, float]) -> tuple[float, ...]:
    """Weights by name, as given, divided by their sum.

    Raises:
        WeightError: a name without a value, a value without a name, or a sum of 0.
    """
    missing = [name for name in names if name not in values]
    unknown = [name for name in values if name not in names]
    if missing or unknown:
        parts = [f"no weight for {name!r}" for name in missing]
        parts += [f"{name!r} is not a candidate{ask_meant(name, names)}" for name in unknown]
        asked = ", ".join(f"{name}: {values.get(name, 1):g}" for name in names)
        raise WeightError(
            "weights.values: " + ", ".join(parts), f"values: {{{asked}}} would name each candidate"
        )
    total = math.fsum(values[name] for name in names)
    if not math.isfinite(total) or abs(total) < 1e-12:
        raise WeightError(f"weights.values sum to {total:g}; an average does not exist")
    return tuple(values[name] / total for name in names)


def effective_models(weights: Sequence[float]) -> float:
    """Effective number of models, 1 / sum of squared weights (Kish 1965, for weights of sum 1)."""
    return 1.0 / math.fsum(weight * weight for weight in weights)
