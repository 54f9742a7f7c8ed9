"""Several labels at once, against scikit-learn."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn import metrics

from fusion.scores.contract import ensemble, score
from fusion.scores.multi_label import MULTI_LABEL, answers, constant_loss
from fusion.scores.records import Records


def said(probabilities, truth):
    outputs, truth = np.array(probabilities, dtype=float), np.array(truth, dtype=float)
    figures = dict(answers(outputs, {"truth": truth}))
    names = tuple(f"e{i}" for i in range(len(truth)))
    return Records(names, names, figures.pop("losses"), np.ones(len(truth)),
                   {"truth": truth, **figures}, outputs)  # fmt: skip


@given(st.integers(0, 1000), st.integers(1, 30), st.integers(1, 6), st.floats(0.02, 0.9))
def test_all_figures_are_those_of_scikit_learn(seed, count, num_labels, share):
    generator = np.random.default_rng(seed)
    truth = generator.random((count, num_labels)) < share  # some labels never appear
    records = said(generator.random((count, num_labels)), truth)
    found = score(records, MULTI_LABEL.metrics, name="x", slice="gate")
    prediction = records.columns["prediction"]
    flat = records.outputs.ravel()
    two = np.stack([1 - flat, flat], axis=1)
    loss = metrics.log_loss(truth.ravel().astype(int), two, labels=[0, 1])
    assert found.loss == pytest.approx(loss, rel=1e-12)
    # Of one label alone scikit-learn takes the two values for two classes.
    average = "binary" if num_labels == 1 else None
    each = metrics.f1_score(
        truth.astype(int), prediction.astype(int), average=average, zero_division=0
    )
    assert found.metrics["macro_f1"] == pytest.approx(np.mean(each), rel=1e-12)
    micro = metrics.f1_score(truth.ravel().astype(int), prediction.ravel(), zero_division=0)
    assert found.metrics["micro_f1"] == pytest.approx(micro, rel=1e-12)
    expected = (truth == prediction).all(axis=1).mean()
    assert found.metrics["exact"] == pytest.approx(expected, rel=1e-12)
    assert found.metrics["hamming"] == pytest.approx(metrics.hamming_loss(
        truth.ravel(), prediction.ravel()), rel=1e-12)  # fmt: skip


def test_a_certain_mistake_has_a_finite_loss_and_nan_stays_nan():
    assert said([[0.0, 1.0]], [[1, 0]]).losses[0] == pytest.approx(-np.log(1e-12))
    assert np.isnan(said([[np.nan, 1.0]], [[1, 1]]).losses[0])


def test_the_floor_is_the_best_that_shares_alone_can_do():
    truth = [[1, 0], [0, 0], [0, 0], [1, 0]]
    assert constant_loss(said([[0.5, 0.0]] * 4, truth)) == pytest.approx(np.log(2) / 2)


@given(st.integers(0, 100))
def test_an_ensemble_is_never_worse_than_its_members_on_average(seed):
    generator = np.random.default_rng(seed)
    truth = generator.random((9, 3)) < 0.4
    members = [said(generator.random((9, 3)), truth) for _ in range(3)]
    weights = [0.5, 0.3, 0.2]
    pooled = ensemble(members, weights, MULTI_LABEL)
    average = sum(w * m.losses for w, m in zip(weights, members, strict=True))
    assert (pooled.losses <= average + 1e-12).all()


def test_a_model_that_says_what_is_usual_knows_nothing():
    truth = np.random.default_rng(0).random((200, 3)) < [0.1, 0.9, 0.2]
    usual = said(np.tile([0.1, 0.9, 0.2], (200, 1)), truth)
    assert MULTI_LABEL.knows(usual)[0] is False
    right = said(np.where(truth, 0.9, 0.1), truth)
    assert MULTI_LABEL.knows(right)[0] is True
