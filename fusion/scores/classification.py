"""What predictions are worth: per-example records first, aggregates second."""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from fusion.scores.records import Records, Score, clustered_error

SMALLEST_PROBABILITY = 1e-12


def log_loss(
    probabilities: npt.NDArray[np.float64], labels: npt.NDArray[np.int64]
) -> npt.NDArray[np.float64]:
    """Natural log loss of the true class per example; probabilities are clipped at 1e-12.

    Args:
        probabilities: [n, c]; nan stays nan.
        labels: [n], 0 to c - 1.
    """
    chosen = probabilities[np.arange(len(labels)), labels]
    return -np.log(np.where(np.isnan(chosen), chosen, np.maximum(chosen, SMALLEST_PROBABILITY)))


def constant_loss(labels: npt.NDArray[np.int64], num_classes: int) -> float:
    """Mean log loss of always answering with the class shares: a model must do better."""
    shares = np.bincount(labels, minlength=num_classes) / len(labels)
    present = shares[shares > 0]
    return float(-(present * np.log(present)).sum())


def score(records: Records, *, name: str, slice: str) -> Score:  # noqa: A002  # the field's word
    """Aggregates of one checkpoint on one slice."""
    return Score(
        name=name,
        slice=slice,
        num_examples=len(records.ids),
        num_clusters=len(set(records.clusters)),
        loss=float(records.losses.mean()),
        loss_error=clustered_error(records.losses, records.clusters),
        accuracy=float((records.predictions == records.labels).mean()),
        macro_f1=macro_f1(records),
        confidence=float(records.probabilities.max(axis=1).mean()),
        brier=brier(records),
    )


def brier(records: Records) -> float:
    """Mean of sum_c (p_c - 1[y = c])^2: 0 is perfect, 2 is surely wrong.

    Source: Brier 1950, Verification of forecasts expressed in terms of probability.
    """
    truth = np.eye(records.probabilities.shape[1])[records.labels]
    return float(((records.probabilities - truth) ** 2).sum(axis=1).mean())


def macro_f1(records: Records) -> float:
    """Mean over classes of 2 TP / (2 TP + FP + FN); a class that never appears counts 0."""
    num_classes = records.probabilities.shape[1]
    right = records.labels[records.predictions == records.labels]
    hits = np.bincount(right, minlength=num_classes)
    seen = np.bincount(records.labels, minlength=num_classes)
    said = np.bincount(records.predictions, minlength=num_classes)
    return float((2 * hits / np.maximum(seen + said, 1)).mean())


def ensemble(members: Sequence[Records], weights: Sequence[float]) -> Records:
    """Linear pool of recorded predictions, y = sum_i w_i y_i, with no further forward pass.

    Args:
        members: records of the same examples in the same order.
        weights: one a member, of sum 1, none negative.

    Raises:
        ValueError: examples or classes differ.
    """
    first = members[0]
    if any(m.ids != first.ids for m in members) or len(members) != len(weights):
        raise ValueError("an ensemble needs the same examples and one weight a member")
    pooled = np.zeros_like(first.probabilities)
    for member, weight in zip(members, weights, strict=True):
        pooled += weight * member.probabilities
    return Records(
        ids=first.ids,
        clusters=first.clusters,
        losses=log_loss(pooled, first.labels),
        labels=first.labels,
        predictions=pooled.argmax(axis=1).astype(np.int64),
        probabilities=pooled,
    )
