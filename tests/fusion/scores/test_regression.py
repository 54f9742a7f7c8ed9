import numpy as np
import pytest
import scipy.stats
from hypothesis import given
from hypothesis import strategies as st

from fusion.evidence.gate import GateRules, Guard, judge
from fusion.evidence.selection import describe_guess
from fusion.scores.contract import ensemble, score
from fusion.scores.records import Records
from fusion.scores.regression import REGRESSION, average_ranks, variance


def said(values, truth):
    values, truth = np.asarray(values, float), np.asarray(truth, float)
    names = tuple(f"e{i}" for i in range(len(truth)))
    return Records(
        names, names, (values - truth) ** 2, np.ones(len(truth)),
        {"truth": truth, "prediction": values}, values[:, None],
    )  # fmt: skip


@given(st.lists(st.sampled_from([0.0, 1.0, 2.5, 4.0]), min_size=1, max_size=30))
def test_equal_values_share_their_ranks(values):
    assert average_ranks(np.array(values)).tolist() == scipy.stats.rankdata(values).tolist()


def test_the_metrics_are_those_of_scipy():
    generator = np.random.default_rng(1)
    truth = np.round(generator.uniform(0, 5, 200), 1)
    values = np.round(truth + generator.normal(size=200), 1)
    found = score(said(values, truth), REGRESSION.metrics, name="m", slice="gate")
    assert found.loss == found.metrics["mse"] == pytest.approx(((values - truth) ** 2).mean())
    assert found.metrics["mae"] == pytest.approx(np.abs(values - truth).mean())
    assert found.metrics["pearson"] == pytest.approx(scipy.stats.pearsonr(values, truth).statistic)
    spearman = scipy.stats.spearmanr(values, truth).statistic
    assert found.metrics["spearman"] == pytest.approx(spearman)


def test_a_constant_has_no_correlation_and_only_guesses():
    truth = np.arange(100.0)
    constant = said(np.full(100, 40.0), truth)
    found = score(constant, REGRESSION.metrics, name="m", slice="gate")
    assert np.isnan(found.metrics["pearson"])
    floor = variance(constant)
    assert floor == pytest.approx(truth.var())
    assert describe_guess(constant, REGRESSION, floor=floor).startswith(
        "no better than guessing: loss 923.5 (the truths' mean: 833.2), Pearson nan"
    )
    assert describe_guess(said(truth + 90, truth), REGRESSION, floor=floor) == ""


def test_an_ensemble_averages_what_was_said_and_counts_its_errors_anew():
    truth = [1.0, 2.0, 3.0]
    pooled = ensemble([said([0, 2, 4], truth), said([2, 2, 5], truth)], [0.5, 0.5], REGRESSION)
    assert pooled.outputs[:, 0].tolist() == pooled.columns["prediction"].tolist() == [1, 2, 4.5]
    assert pooled.losses.tolist() == [0, 0, 2.25]


@pytest.mark.parametrize("metric", REGRESSION.guards)
def test_a_guard_may_name_any_metric_and_knows_which_way_is_better(metric):
    generator = np.random.default_rng(2)
    truth = generator.uniform(0, 5, 300)
    noise = generator.normal(size=300)
    near, far = said(truth + 0.5 * noise, truth), said(truth + noise, truth)

    def passed(fused, reference):
        rules = GateRules(guards=(Guard(metric, 0.01),))
        verdict = judge(fused, best_candidate=("a", reference), incumbent=None, rules=rules,
                        metrics=REGRESSION.metrics)  # fmt: skip
        return verdict.guards[0].passed

    assert passed(near, far)
    assert not passed(far, near)
