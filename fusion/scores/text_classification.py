"""Text classification: one class of several a text; log loss, accuracy, macro F1, Brier score."""

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from fusion.scores.contract import Metric, TaskSpec
from fusion.scores.records import Floats, Records

SMALLEST_PROBABILITY = 1e-12


def log_loss(probabilities: Floats, labels: npt.NDArray[np.int64]) -> Floats:
    """Natural log loss of the true class per example; probabilities are clipped at 1e-12.

    Args:
        probabilities: [n, c] probabilities of the classes; nan stays nan.
        labels: [n] number of the true class, 0 to c - 1.
    """
    return negative_log(probabilities[np.arange(len(labels)), labels])


def negative_log(probabilities: Floats) -> Floats:
    """-ln p of each probability, clipped at 1e-12; nan stays nan."""
    clipped = np.where(
        np.isnan(probabilities), probabilities, np.maximum(probabilities, SMALLEST_PROBABILITY)
    )
    losses: Floats = -np.log(clipped)
    return losses


def answers(probabilities: Floats, columns: Mapping[str, Floats]) -> Mapping[str, Floats]:
    """Losses and the class of the largest probability."""
    return {
        "losses": log_loss(probabilities, columns["truth"].astype(np.int64)),
        "prediction": probabilities.argmax(axis=1).astype(np.float64),
    }


def constant_loss(records: Records) -> float:
    """Mean log loss of always answering with the class shares: a model must do better."""
    shares = np.bincount(_truth(records)) / len(records.ids)
    present = shares[shares > 0]
    return float(-(present * np.log(present)).sum())


def is_right(records: Records) -> Floats:
    """[n]: 1 where the predicted class is the true one; [n, k] where k labels are said."""
    right: Floats = (records.columns["prediction"] == records.columns["truth"]).astype(np.float64)
    return right


def confidence(records: Records) -> Floats:
    """[n]: probability of the predicted class; its mean above the accuracy is overconfidence."""
    best: Floats = _probabilities(records).max(axis=1)
    return best


def brier(records: Records) -> Floats:
    """[n]: sum_c (p_c - 1[y = c])^2: 0 is perfect, 2 is surely wrong.

    Source: Brier 1950, Verification of forecasts expressed in terms of probability.
    """
    probabilities = _probabilities(records)
    truth = np.eye(probabilities.shape[1])[_truth(records)]
    squares: Floats = ((probabilities - truth) ** 2).sum(axis=1)
    return squares


def macro_f1(records: Records) -> float:
    """Mean over classes of 2 TP / (2 TP + FP + FN); a class that never appears counts 0."""
    num_classes = _probabilities(records).shape[1]
    truth = _truth(records)
    predictions = records.columns["prediction"].astype(np.int64)
    hits = np.bincount(truth[predictions == truth], minlength=num_classes)
    seen = np.bincount(truth, minlength=num_classes)
    said = np.bincount(predictions, minlength=num_classes)
    return float(f1_scores(hits, seen, said).mean())


def f1_scores(
    hits: npt.NDArray[Any], seen: npt.NDArray[Any], said: npt.NDArray[Any]
) -> npt.NDArray[Any]:
    """2 TP / (2 TP + FP + FN) of each class; 0 where it is neither true nor said.

    Args:
        hits: [k] how often each class is true and said.
        seen: [k] how often it is true.
        said: [k] how often it is said.
    """
    scores: npt.NDArray[Any] = 2 * hits / np.maximum(seen + said, 1)
    return scores


def beats_majority(records: Records) -> tuple[bool, str]:
    """Whether the accuracy is above that of the largest class by more than two errors.

    An overconfident model can have a bad loss and still know something: averaging mends that.
    """
    accuracy = float(is_right(records).mean())
    majority = float(np.bincount(_truth(records)).max() / len(records.ids))
    error = math.sqrt(majority * (1 - majority) / len(records.ids))
    words = f"accuracy {accuracy:.3f} (largest class: {majority:.3f})"
    return accuracy > majority + 2 * error, words


def _truth(records: Records) -> npt.NDArray[np.int64]:
    return records.columns["truth"].astype(np.int64)


def _probabilities(records: Records) -> Floats:
    assert records.outputs is not None
    return records.outputs


TEXT_CLASSIFICATION = TaskSpec(
    kind="text-classification",
    head="classes",
    columns={"text": "text", "text_pair": "text", "label": "label"},
    metrics={
        "accuracy": Metric("accuracy", each=is_right, is_share=True),
        "macro_f1": Metric("macro F1", of=macro_f1),
        "confidence": Metric("confidence", each=confidence, is_better_high=None, is_share=True),
        "brier": Metric("Brier score", each=brier, is_better_high=False),
    },
    shown=("accuracy", "macro_f1"),
    loss="mean log loss, in nats",
    unit="nats",
    optional=frozenset({"text_pair"}),
    answers=answers,
    floor="class shares",
    knows=beats_majority,
)
