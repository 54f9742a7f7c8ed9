"""Several labels at once: each true or not; binary log loss, F1, exact matches."""

import math
from collections.abc import Mapping

import numpy as np

from fusion.scores.contract import Metric, TaskSpec
from fusion.scores.records import Floats, Records
from fusion.scores.text_classification import f1_scores, is_right, negative_log

# A label is said where its probability is at least this.
THRESHOLD = 0.5


def binary_log_loss(probabilities: Floats, truth: Floats) -> Floats:
    """[n]: mean over the labels of the natural log loss of each; clipped at 1e-12.

    Args:
        probabilities: [n, k] probability of each label; nan stays nan.
        truth: [n, k] 1 where the label is true, else 0.
    """
    chosen = np.where(truth == 1, probabilities, 1 - probabilities)
    losses: Floats = negative_log(chosen).sum(axis=1) / chosen.shape[1]
    return losses


def answers(probabilities: Floats, columns: Mapping[str, Floats]) -> Mapping[str, Floats]:
    """Losses, and which labels are said."""
    return {
        "losses": binary_log_loss(probabilities, columns["truth"]),
        "prediction": (probabilities >= THRESHOLD).astype(np.float64),
    }


def constant_loss(records: Records) -> float:
    """Mean log loss of always answering with the share of each label."""
    shares = records.columns["truth"].mean(axis=0)
    mixed = shares[(shares > 0) & (shares < 1)]
    entropies = -(mixed * np.log(mixed) + (1 - mixed) * np.log1p(-mixed))
    return float(entropies.sum() / len(shares))


def is_exact(records: Records) -> Floats:
    """[n]: 1 where all labels are right."""
    exact: Floats = np.asarray(is_right(records).all(axis=1), dtype=np.float64)
    return exact


def hamming(records: Records) -> Floats:
    """[n]: share of the labels that are wrong."""
    right = is_right(records)
    wrong: Floats = 1 - right.sum(axis=1) / right.shape[1]
    return wrong


def micro_f1(records: Records) -> float:
    """2 TP / (2 TP + FP + FN) over all labels together; 0 where nothing is true or said."""
    hits, seen, said = _counts(records)
    return float(2 * hits.sum() / max(seen.sum() + said.sum(), 1))


def macro_f1(records: Records) -> float:
    """Mean over labels of 2 TP / (2 TP + FP + FN); a label that never appears counts 0."""
    hits, seen, said = _counts(records)
    return float(f1_scores(hits, seen, said).mean())


def beats_majority(records: Records) -> tuple[bool, str]:
    """Whether more labels are right, by two errors, than where each is always or never said."""
    right, truth = is_right(records).mean(axis=1), records.columns["truth"]
    shares = truth.mean(axis=0)
    usual = 1 - np.abs(truth - (shares >= THRESHOLD)).mean(axis=1)
    gain = right - usual
    error = float(gain.std()) / math.sqrt(len(gain))
    words = f"{right.mean():.3f} of the labels right (the usual ones: {usual.mean():.3f})"
    return float(gain.mean()) > 2 * error, words


def _counts(records: Records) -> tuple[Floats, Floats, Floats]:
    """[k] each: how often a label is true and said, true, said."""
    truth, said = records.columns["truth"], records.columns["prediction"]
    return (truth * said).sum(axis=0), truth.sum(axis=0), said.sum(axis=0)


MULTI_LABEL = TaskSpec(
    kind="multi-label-classification",
    head="labels",
    columns={"text": "text", "text_pair": "text", "labels": "any"},
    metrics={
        "micro_f1": Metric("micro F1", of=micro_f1),
        "macro_f1": Metric("macro F1", of=macro_f1),
        "exact": Metric("exact match", each=is_exact, is_share=True),
        "hamming": Metric("Hamming loss", each=hamming, is_better_high=False),
    },
    shown=("micro_f1", "macro_f1", "exact"),
    loss="mean binary log loss of a label, in nats",
    unit="nats",
    optional=frozenset({"text_pair"}),
    answers=answers,
    floor="shares of the labels",
    knows=beats_majority,
)
