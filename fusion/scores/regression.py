"""Regression: one number a text or pair of texts; squared error, MAE, Pearson, Spearman."""

import math
from collections.abc import Mapping

import numpy as np

from fusion.scores.contract import Metric, TaskSpec
from fusion.scores.records import Floats, Records


def answers(outputs: Floats, columns: Mapping[str, Floats]) -> Mapping[str, Floats]:
    """Squared errors, and the numbers that were said; outputs [n, 1]."""
    said = outputs[:, 0]
    return {"losses": (said - columns["truth"]) ** 2, "prediction": said}


def variance(records: Records) -> float:
    """Of the truths: the mean squared error of always answering with their mean."""
    return float(records.columns["truth"].var())


def absolute_error(records: Records) -> Floats:
    """[n]: |prediction - truth|."""
    return np.abs(records.columns["prediction"] - records.columns["truth"])


def squared_error(records: Records) -> Floats:
    """[n]: the losses themselves."""
    return records.losses


def pearson(records: Records) -> float:
    """Correlation of predictions and truths; nan where either is constant."""
    return _correlation(records.columns["prediction"], records.columns["truth"])


def spearman(records: Records) -> float:
    """Correlation of the ranks; equal values share the mean of their ranks."""
    return _correlation(
        average_ranks(records.columns["prediction"]), average_ranks(records.columns["truth"])
    )


def average_ranks(values: Floats) -> Floats:
    """[n]: ranks from 1; equal values share the mean of theirs."""
    _, place, counts = np.unique(values, return_inverse=True, return_counts=True)
    last = np.cumsum(counts)
    ranks: Floats = (last - (counts - 1) / 2)[place]
    return ranks


def is_related(records: Records) -> tuple[bool, str]:
    """Whether predictions rise with the truths by more than two errors, whatever their scale."""
    found = pearson(records)
    return found > 2 / math.sqrt(len(records.ids)), f"Pearson {found:.3f}"


def _correlation(first: Floats, second: Floats) -> float:
    one, two = first - first.mean(), second - second.mean()
    size = math.sqrt(float((one**2).sum()) * float((two**2).sum()))
    return float((one * two).sum()) / size if size > 0 else math.nan


REGRESSION = TaskSpec(
    kind="regression",
    head="value",
    columns={"text": "text", "text_pair": "text", "label": "number"},
    metrics={
        "pearson": Metric("Pearson", of=pearson),
        "spearman": Metric("Spearman", of=spearman),
        "mae": Metric("MAE", each=absolute_error, is_better_high=False),
        "mse": Metric("MSE", each=squared_error, is_better_high=False),
    },
    shown=("pearson", "spearman", "mae"),
    loss="mean squared error",
    measure="mean squared error",
    optional=frozenset({"text_pair"}),
    answers=answers,
    floor="the truths' mean",
    knows=is_related,
)
