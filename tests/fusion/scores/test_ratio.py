"""The loss as a ratio, and what older releases stored."""

import math

import numpy as np
import pytest

from fusion.canonical import from_json, to_json
from fusion.evidence.differences import paired_difference
from fusion.manifests.report import PublishedFigure
from fusion.scores.records import Records, Score, clustered_error, ratio_error


def records(losses, units, clusters=None):
    names = tuple(f"e{i}" for i in range(len(losses)))
    return Records(names, tuple(clusters or names), np.array(losses, float), np.array(units, float))


def test_units_of_one_give_the_mean_and_its_error():
    losses = [1.0, 2.0, 4.0, 7.0]
    clusters = ["a", "a", "b", "c"]
    found = records(losses, [1, 1, 1, 1], clusters)
    assert found.loss == 3.5
    assert ratio_error(found) == pytest.approx(
        clustered_error(np.array(losses), clusters), rel=1e-12
    )


def test_a_long_text_counts_by_its_tokens():
    found = records([10.0, 90.0], [10, 30])
    assert found.loss == 2.5
    # (l - L u) / U is (10 - 25) / 40 and (90 - 75) / 40; SE^2 = 2 / 1 * (0.375^2 + 0.375^2)
    assert ratio_error(found) == pytest.approx(0.75, rel=1e-12)


def test_splitting_a_text_within_its_cluster_changes_neither_loss_nor_error():
    whole = records([10.0, 90.0, 30.0], [10, 30, 20], ["a", "b", "c"])
    split = records([10.0, 40.0, 50.0, 30.0], [10, 12, 18, 20], ["a", "b", "b", "c"])
    assert split.loss == whole.loss
    assert ratio_error(split) == pytest.approx(ratio_error(whole), rel=1e-12)


def test_the_error_of_a_ratio_is_the_spread_of_it_over_samples():
    generator = np.random.default_rng(0)
    errors, losses = [], []
    for _ in range(400):
        units = generator.integers(5, 50, 200)
        found = records(units * generator.normal(2, 0.5, 200), units)
        errors.append(ratio_error(found))
        losses.append(found.loss)
    assert np.mean(errors) == pytest.approx(np.std(losses), rel=0.1)


def test_a_difference_of_ratios_needs_no_common_units():
    one = records([10.0, 20.0, 60.0], [5, 10, 20])
    other = records([20.0, 40.0, 120.0], [10, 20, 40])  # the same ratios in other tokens
    found = paired_difference(one, other)
    assert found.mean == pytest.approx(0, abs=1e-12)
    assert found.standard_error == pytest.approx(0, abs=1e-12)


def test_scores_of_0_1_are_read_with_their_metrics_by_name():
    stored = (
        b'{"accuracy":0.8,"brier":"nan","confidence":0.9,"loss":0.5,"loss_error":0.1,'
        b'"macro_f1":0.7,"name":"a","num_clusters":9,"num_examples":10,"slice":"gate"}'
    )
    found = from_json(Score, stored)
    assert (found.loss, found.metrics["accuracy"], found.metrics["macro_f1"]) == (0.5, 0.8, 0.7)
    assert math.isnan(found.metrics["brier"])
    assert to_json(from_json(Score, to_json(found))) == to_json(found)
    figure = from_json(PublishedFigure, b'{"accuracy":0.5,"loss":0.9,"source":"s"}')
    assert figure == PublishedFigure("s", 0.9, {"accuracy": 0.5})
