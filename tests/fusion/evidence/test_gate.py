import math
from dataclasses import replace

import numpy as np
import pytest

from fusion.evidence.gate import GateRules, Guard, judge
from fusion.scores.text_classification import TEXT_CLASSIFICATION
from tests.support.made_records import made


def make(losses, *, right=None, ids=None, clusters=None):
    losses = np.asarray(losses, dtype=np.float64)
    n = len(losses)
    ids = tuple(ids) if ids is not None else tuple(f"e{i}" for i in range(n))
    labels = np.arange(n) % 2
    hits = np.ones(n, dtype=bool) if right is None else np.asarray(right)
    predictions = np.where(hits, labels, 1 - labels)
    return made(np.eye(2)[predictions], labels, losses=losses, ids=ids, clusters=clusters)


def noise(seed, n=400, spread=0.3):
    return np.random.default_rng(seed).normal(0.7, spread, n)


BASE = noise(0)


def gain(mean, n=400, seed=1, spread=0.2):
    """Losses that are lower than BASE by `mean` on average."""
    steps = np.random.default_rng(seed).normal(size=n) * spread
    return make(BASE[:n] - mean - steps + steps.mean())


def decide(fused, best=None, incumbent=None, problems=(), **rules):
    return judge(
        fused,
        best_candidate=("seed-1", best or make(BASE)),
        incumbent=("night-1", incumbent) if incumbent is not None else None,
        rules=GateRules(**rules),
        metrics=TEXT_CLASSIFICATION.metrics,
        problems=problems,
    )


def test_clearly_better_than_both_is_promoted():
    verdict = decide(gain(0.1), incumbent=make(BASE))
    assert (verdict.decision, verdict.reason) == ("PROMOTE", "better")
    assert [c.role for c in verdict.comparisons] == ["incumbent", "best_candidate"]
    assert all(c.lower > 0 for c in verdict.comparisons)
    assert "0.1000 lower" in verdict.sentence


def test_better_than_one_reference_only_is_not_promoted():
    verdict = decide(gain(0.1), best=make(BASE - 0.3), incumbent=make(BASE))
    assert (verdict.decision, verdict.reason) == ("HOLD", "not_better")
    assert "seed-1" in verdict.sentence


def test_worse_is_held():
    assert decide(gain(-0.1)).reason == "not_better"


def test_a_gain_below_the_smallest_effect_is_held():
    verdict = decide(gain(0.0, spread=0.01), smallest_effect=0.05)
    assert (verdict.decision, verdict.reason) == ("HOLD", "not_better")


def test_what_cannot_be_told_is_refused_with_the_examples_needed():
    verdict = decide(gain(0.01, spread=0.5), smallest_effect=0.02)
    assert (verdict.decision, verdict.reason) == ("REFUSE", "undecided")
    assert verdict.examples_needed is not None
    assert verdict.examples_needed > 400
    assert f"{verdict.examples_needed:,}" in verdict.sentence


def test_the_examples_needed_would_detect_the_effect():
    verdict = decide(gain(0.01, spread=0.5), smallest_effect=0.02)
    (comparison,) = verdict.comparisons
    shrunk = comparison.detectable * math.sqrt(400 / verdict.examples_needed)
    assert shrunk == pytest.approx(0.02, rel=0.01)


def test_the_first_model_can_be_held_by_the_recipe():
    assert decide(gain(0.1)).decision == "PROMOTE"
    assert decide(gain(0.1), first="hold").reason == "first_held"
    assert decide(gain(0.1), first="hold", incumbent=make(BASE)).decision == "PROMOTE"


def test_not_inferior_within_the_margin_is_promoted():
    same = gain(0.0, spread=0.05)
    assert decide(same).decision != "PROMOTE"
    assert decide(same, mode="non_inferior", margin=0.05).decision == "PROMOTE"
    assert decide(gain(-0.2), mode="non_inferior", margin=0.05).reason == "not_better"


def test_a_failed_guard_holds_even_a_better_loss():
    fused = replace_right(gain(0.1), [i % 4 != 0 for i in range(400)])
    verdict = decide(fused, guards=[Guard("accuracy", 0.01)])
    assert (verdict.decision, verdict.reason) == ("HOLD", "guard")
    assert "accuracy" in verdict.sentence
    assert decide(fused, guards=[Guard("accuracy", 0.5)]).decision == "PROMOTE"
    assert decide(fused, guards=[Guard("macro_f1", 0.01)]).reason == "guard"
    assert decide(fused, guards=[Guard("macro_f1", 0.5)]).decision == "PROMOTE"


def test_a_guard_for_a_metric_that_does_not_exist_is_a_mistake_of_ours():
    with pytest.raises(ValueError, match="no guard for charm"):
        decide(gain(0.1), guards=[Guard("charm", 0.1)])


def replace_right(records, right):
    return make(records.losses, right=right)


def test_an_invalid_test_decides_nothing():
    assert decide(gain(0.1), problems=[("rescoring_differs", "by 1")]).reason == "rescoring_differs"
    bad = make(np.where(np.arange(400) == 3, np.nan, BASE - 1))
    assert decide(bad).reason == "not_finite"
    small = make(BASE[:99] - 1)
    assert decide(small, best=make(BASE[:99])).reason == "too_few_examples"
    verdict = decide(gain(0.1), best=make(BASE[:390]))
    assert (verdict.decision, verdict.reason) == ("REFUSE", "missing_examples")


def test_one_missing_example_of_many_counts_as_the_worst():
    n = 2000
    base = noise(3, n)
    fused = make((base - 0.1)[:-1])
    verdict = decide(fused, best=make(base))
    (comparison,) = verdict.comparisons
    assert comparison.num_examples == n
    expected = (0.1 * (n - 1) + base[-1] - fused.losses.max()) / n
    assert comparison.mean == pytest.approx(expected)


def test_order_of_examples_does_not_matter():
    fused, best = gain(0.02), make(BASE)
    order = np.random.default_rng(5).permutation(400)

    def shuffled(records):
        return made(
            records.outputs[order], records.columns["truth"][order], losses=records.losses[order],
            ids=[records.ids[i] for i in order], clusters=[records.clusters[i] for i in order],
        )  # fmt: skip

    one, other = decide(fused), decide(shuffled(fused), best=shuffled(best))
    assert one.comparisons[0].lower == pytest.approx(other.comparisons[0].lower)
    assert one.decision == other.decision


def test_clusters_widen_the_interval():
    steps = np.repeat(np.random.default_rng(2).normal(size=40), 10) * 0.2
    losses = BASE - 0.03 - steps
    names = [f"d{i // 10}" for i in range(400)]
    alone = decide(make(losses)).comparisons[0]
    together = decide(make(losses, clusters=names), best=make(BASE, clusters=names)).comparisons[0]
    assert together.standard_error > 2 * alone.standard_error
    assert together.degrees == 39


def test_under_the_null_promotions_are_as_rare_as_promised():
    generator = np.random.default_rng(11)
    promoted = sum(
        decide(make(BASE + generator.normal(0, 0.3, 400))).decision == "PROMOTE" for _ in range(400)
    )
    assert promoted / 400 <= 0.05 + 3 * math.sqrt(0.05 * 0.95 / 400)


def test_the_detectable_effect_is_detected_eight_times_of_ten():
    generator = np.random.default_rng(12)
    effect = 2.486 * 0.3 / math.sqrt(400)
    promoted = sum(
        decide(make(BASE - effect + generator.normal(0, 0.3, 400))).decision == "PROMOTE"
        for _ in range(300)
    )
    assert 0.73 <= promoted / 300 <= 0.87


def test_rules_are_values():
    assert replace(GateRules(), alpha=0.005).alpha == 0.005


def test_a_single_cluster_is_refused_and_not_a_number_with_a_hole():
    one = ["the same document"] * 400
    fused = replace(gain(0.1), clusters=tuple(one))
    verdict = decide(fused, best=make(BASE, clusters=one))
    assert (verdict.decision, verdict.reason) == ("REFUSE", "too_few_clusters")
    assert "1 cluster in the gate slice, at least 2 are needed" in verdict.sentence
