"""Metrics, paired differences and selection."""

import math
from dataclasses import replace
from functools import partial

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
from fusion.evidence.selection import Measured, SelectRules, choose, describe_guess, find_excess
from fusion.scores.contract import ensemble, score
from fusion.scores.records import clustered_error
from fusion.scores.text_classification import (
    TEXT_CLASSIFICATION,
    brier,
    constant_loss,
    is_right,
    log_loss,
    macro_f1,
)
from tests.support.made_records import made


def random_records(seed, n=60, classes=3):
    generator = np.random.default_rng(seed)
    return made(generator.dirichlet(np.ones(classes), size=n), np.arange(n) % classes)


def test_scores_agree_with_their_definitions_written_out():
    records = random_records(1)
    truth = records.columns["truth"].astype(int)
    pairs = list(zip(truth, records.columns["prediction"], strict=True))
    losses = [-math.log(row[label]) for row, label in zip(records.outputs, truth, strict=True)]
    by_class = []
    for wanted in range(3):
        hits = sum(label == said == wanted for label, said in pairs)
        precision = hits / sum(said == wanted for _, said in pairs)
        recall = hits / sum(label == wanted for label, _ in pairs)
        by_class.append(2 * precision * recall / (precision + recall))
    found = score(records, TEXT_CLASSIFICATION.metrics, name="m", slice="gate")
    assert found.loss == pytest.approx(sum(losses) / len(losses))
    assert found.metrics["accuracy"] == pytest.approx(sum(a == b for a, b in pairs) / len(pairs))
    assert found.metrics["macro_f1"] == pytest.approx(sum(by_class) / 3)


def test_a_certain_mistake_costs_a_finite_loss_and_nan_stays_nan():
    losses = log_loss(np.array([[1.0, 0.0], [np.nan, 1.0]]), np.array([1, 0]))
    assert losses[0] == pytest.approx(-math.log(1e-12))
    assert math.isnan(losses[1])


def test_a_class_that_never_appears_counts_zero():
    records = made([[0.9, 0.1, 0.0], [0.1, 0.9, 0.0]], [0, 1])
    assert macro_f1(records) == pytest.approx(2 / 3)


def test_the_constant_loss_is_the_entropy_of_the_labels():
    assert constant_loss(made(np.full((4, 2), 0.5), [0, 1, 0, 1])) == pytest.approx(math.log(2))


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
    pooled = ensemble(members, weights, TEXT_CLASSIFICATION).losses
    average = sum(w * m.losses for w, m in zip(weights, members, strict=True))
    assert (pooled <= average + 1e-9).all()


def test_an_ensemble_of_other_examples_is_refused():
    with pytest.raises(ValueError, match="same examples"):
        ensemble([random_records(1), random_records(2, n=30)], [0.5, 0.5], TEXT_CLASSIFICATION)


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
    moved = replace(better, losses=better.losses - gain)
    before = lower_bound(paired_difference(reference, better), 0.05)
    after = lower_bound(paired_difference(reference, moved), 0.05)
    assert after - before == pytest.approx(gain, abs=1e-9)


def test_the_detectable_effect_is_two_and_a_half_errors():
    assert detectable(1.0, alpha=0.05) == pytest.approx(2.486, abs=1e-3)


def measured(name, loss, **more):
    values = {"num_parameters": 100, "num_bytes": 400}
    return Measured(name=name, loss=loss, **{**values, **more})


def test_the_best_are_kept_and_everybody_gets_a_reason():
    choices = choose(
        [
            measured("a", 0.5),
            measured("b", 0.4),
            measured("nan", math.nan),
            measured("guess", 3.0, guess="no better than guessing: loss 3"),
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


def answered(num_right, sure):
    """100 answers for two classes of equal size, all given with the same probability."""
    labels = np.arange(100) % 2
    said = np.where(np.arange(100) < num_right, labels, 1 - labels)
    return made(np.where(np.eye(2)[said] == 1, sure, 1 - sure), labels)


def test_a_model_guesses_if_its_loss_and_its_accuracy_say_so():
    records = answered(num_right=51, sure=0.99)
    floor = constant_loss(records)
    assert describe_guess(records, TEXT_CLASSIFICATION, floor=floor) == (
        f"no better than guessing: loss {records.loss:.4g} (class shares: 0.6931), accuracy 0.510 "
        "(largest class: 0.500)"
    )
    overconfident = answered(num_right=77, sure=0.999)
    assert overconfident.loss > floor
    assert describe_guess(overconfident, TEXT_CLASSIFICATION, floor=floor) == ""
    assert describe_guess(answered(51, 0.5), TEXT_CLASSIFICATION, floor=1.0) == ""


def test_a_candidate_of_too_many_bytes_is_named_before_it_is_evaluated():
    assert find_excess(10, 2000, SelectRules(max_bytes=1000)) == "2,000 bytes, limit 1,000"
    assert find_excess(10, 1000, SelectRules(max_bytes=1000)) == ""


def test_differences_are_of_the_same_examples_in_the_same_order():
    records = random_records(0)
    other = replace(records, ids=records.ids[::-1])
    for compare in (paired_difference, partial(accuracy_change, is_right=is_right)):
        with pytest.raises(ValueError, match="same examples in the same order"):
            compare(records, other)


def test_of_many_that_differ_no_exact_chance_is_told():
    labels = np.zeros(60, dtype=np.int64)
    wrong, right = (made(np.eye(2)[np.full(60, k)], labels) for k in (1, 0))
    assert accuracy_change(wrong, right, is_right).p_value is None


def test_of_one_cluster_there_is_no_error():
    assert math.isnan(clustered_error(np.arange(4.0), ["same"] * 4))


@given(st.lists(st.tuples(st.booleans(), st.booleans()), min_size=2, max_size=60))
def test_accuracies_are_compared_as_mcnemar_does(pairs):
    def answered(right):
        return made(np.eye(2)[np.where(right, 0, 1)], np.zeros(len(right)))

    change = accuracy_change(
        answered([a for a, _ in pairs]), answered([b for _, b in pairs]), is_right
    )
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
    records = made(np.eye(2), [0, 1])
    wrong = replace(records, outputs=np.eye(2)[::-1])
    assert (brier(records).tolist(), brier(wrong).tolist()) == ([0.0, 0.0], [2.0, 2.0])
