"""Metrics, paired differences and selection."""

import math
from dataclasses import replace

import numpy as np
import pytest
import scipy.stats
from hypothesis import given
from hypothesis import strategies as st

from fusion.evidence.differences import (
    accuracy_change,
    detectable,
    difference_of,
    interval,
    lower_bound,
    paired_difference,
)
from fusion.evidence.selection import Measured, SelectRules, choose
from fusion.scores.classification import brier, constant_loss, ensemble, log_loss, macro_f1, score
from fusion.scores.records import Records, clustered_error


def make_records(probabilities, labels, clusters=None):
    probabilities = np.asarray(probabilities, dtype=np.float64)
    labels = np.asarray(labels, dtype=np.int64)
    ids = tuple(f"e{i}" for i in range(len(labels)))
    return Records(
        ids=ids,
        clusters=tuple(clusters or ids),
        losses=log_loss(probabilities, labels),
        labels=labels,
        predictions=probabilities.argmax(axis=1).astype(np.int64),
        probabilities=probabilities,
    )


def random_records(seed, n=60, classes=3):
    generator = np.random.default_rng(seed)
    return make_records(generator.dirichlet(np.ones(classes), size=n), np.arange(n) % classes)


def test_scores_agree_with_their_definitions_written_out():
    records = random_records(1)
    pairs = list(zip(records.labels.tolist(), records.predictions.tolist(), strict=True))
    losses = [
        -math.log(row[label])
        for row, label in zip(records.probabilities, records.labels, strict=True)
    ]
    by_class = []
    for wanted in range(3):
        hits = sum(label == said == wanted for label, said in pairs)
        precision = hits / sum(said == wanted for _, said in pairs)
        recall = hits / sum(label == wanted for label, _ in pairs)
        by_class.append(2 * precision * recall / (precision + recall))
    found = score(records, name="m", slice="gate")
    assert found.loss == pytest.approx(sum(losses) / len(losses))
    assert found.accuracy == pytest.approx(sum(a == b for a, b in pairs) / len(pairs))
    assert found.macro_f1 == pytest.approx(sum(by_class) / 3)


def test_a_certain_mistake_costs_a_finite_loss_and_nan_stays_nan():
    losses = log_loss(np.array([[1.0, 0.0], [np.nan, 1.0]]), np.array([1, 0]))
    assert losses[0] == pytest.approx(-math.log(1e-12))
    assert math.isnan(losses[1])


def test_a_class_that_never_appears_counts_zero():
    records = make_records([[0.9, 0.1, 0.0], [0.1, 0.9, 0.0]], [0, 1])
    assert macro_f1(records) == pytest.approx(2 / 3)


def test_the_constant_loss_is_the_entropy_of_the_labels():
    assert constant_loss(np.array([0, 1, 0, 1]), 2) == pytest.approx(math.log(2))


def test_clusters_of_one_give_the_ordinary_standard_error():
    values = np.array([1.0, 2.0, 4.0, 7.0])
    expected = values.std(ddof=1) / 2
    assert clustered_error(values, ["a", "b", "c", "d"]) == pytest.approx(expected)


def test_repeating_each_example_does_not_shrink_the_error():
    values = np.array([1.0, 2.0, 4.0, 7.0])
    twice = np.repeat(values, 2)
    names = [name for name in "abcd" for _ in range(2)]
    assert clustered_error(twice, names) == pytest.approx(clustered_error(values, list("abcd")))


@given(st.integers(0, 10_000), st.lists(st.floats(0.01, 1), min_size=2, max_size=5))
def test_an_ensemble_is_never_worse_than_its_members_on_average(seed, raw):
    weights = [value / sum(raw) for value in raw]
    members = [random_records(seed + i) for i in range(len(weights))]
    pooled = ensemble(members, weights).losses
    average = sum(w * m.losses for w, m in zip(weights, members, strict=True))
    assert (pooled <= average + 1e-9).all()


def test_an_ensemble_of_other_examples_is_refused():
    with pytest.raises(ValueError, match="same examples"):
        ensemble([random_records(1), random_records(2, n=30)], [0.5, 0.5])


def test_the_interval_has_its_coverage():
    generator = np.random.default_rng(0)
    hits = 0
    for _ in range(400):
        groups = np.repeat(generator.normal(size=12), 5) * 0.5
        values = groups + generator.normal(size=60)
        low, high = interval(difference_of(values, [str(i // 5) for i in range(60)]))
        hits += low <= 0 <= high
    assert 0.92 <= hits / 400 <= 0.98


@given(st.floats(-1, 1))
def test_a_constant_gain_moves_the_bound_by_exactly_that(gain):
    better, reference = random_records(3), random_records(4)
    moved = Records(better.ids, better.clusters, better.losses - gain, better.labels,
                    better.predictions, better.probabilities)  # fmt: skip
    before = lower_bound(paired_difference(reference, better), 0.05)
    after = lower_bound(paired_difference(reference, moved), 0.05)
    assert after - before == pytest.approx(gain, abs=1e-9)


def test_the_detectable_effect_is_two_and_a_half_errors():
    assert detectable(1.0, alpha=0.05) == pytest.approx(2.486, abs=1e-3)


def measured(name, loss, **more):
    values = {"accuracy": 0.8, "num_examples": 300, "baseline_loss": 0.69, "majority": 0.5,
              "num_parameters": 100, "num_bytes": 400}  # fmt: skip
    return Measured(name=name, loss=loss, **{**values, **more})


def test_the_best_are_kept_and_everybody_gets_a_reason():
    choices = choose(
        [
            measured("a", 0.5),
            measured("b", 0.4),
            measured("nan", math.nan),
            measured("guess", 3.0, accuracy=0.51),
            measured("large", 0.1, num_parameters=1000),
            measured("rotten", 0.3, health="absmax 3e38 in w"),
            measured("c", 0.6),
        ],
        SelectRules(keep=2, max_parameters=500),
    )
    kept = {choice.name for choice in choices if choice.is_kept}
    reasons = {choice.name: choice.reason for choice in choices}
    assert kept == {"a", "b"}
    assert reasons["b"] == "rank 1 of 3"
    assert reasons["c"] == "rank 3 of 3, keep is 2"
    assert "nan" in reasons["nan"]
    assert "no better than guessing" in reasons["guess"]
    assert "limit 500" in reasons["large"]
    assert reasons["rotten"] == "looks damaged: absmax 3e38 in w"


def test_an_overconfident_model_that_knows_something_is_kept():
    (choice,) = choose([measured("a", 0.9, accuracy=0.77)], SelectRules())
    assert choice.is_kept


@given(st.lists(st.tuples(st.booleans(), st.booleans()), min_size=2, max_size=60))
def test_accuracies_are_compared_as_mcnemar_does(pairs):
    def made(right):
        labels = np.zeros(len(right), dtype=np.int64)
        predictions = np.where(right, 0, 1)
        names = tuple(map(str, range(len(right))))
        probabilities = np.eye(2)[predictions]
        return Records(
            names, names, log_loss(probabilities, labels), labels, predictions, probabilities
        )

    change = accuracy_change(made([a for a, _ in pairs]), made([b for _, b in pairs]))
    gained = sum(b and not a for a, b in pairs)
    lost = sum(a and not b for a, b in pairs)
    assert (change.num_gained, change.num_lost) == (gained, lost)
    assert change.mean == pytest.approx((gained - lost) / len(pairs))
    if gained + lost >= 25:
        assert change.p_value is None
    elif gained + lost == 0:
        assert change.p_value == 1.0
    else:
        oracle = scipy.stats.binomtest(gained, gained + lost, 0.5).pvalue
        assert change.p_value == pytest.approx(oracle)


def test_a_brier_score_is_0_for_certainty_and_2_for_sure_error():
    labels = np.array([0, 1])
    right = np.eye(2)
    records = Records(("a", "b"), ("a", "b"), log_loss(right, labels), labels, labels, right)
    wrong = replace(records, probabilities=right[::-1])
    assert (brier(records), brier(wrong)) == (0.0, 2.0)
