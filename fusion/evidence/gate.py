"""Is the fused model better? A verdict from paired differences, with nothing hidden.

The rules are those of a one-sided, paired, clustered t-test against two references.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
import numpy.typing as npt

from fusion.evidence.differences import (
    detectable,
    difference_of,
    interval,
    lower_bound,
    paired_difference,
    upper_bound,
)
from fusion.evidence.verdict import Comparison, GuardResult, Role, Verdict
from fusion.evidence.wording import describe_gain, format_signed
from fusion.scores.contract import Metric
from fusion.scores.records import SMALLEST_CLUSTERS, Records


@dataclass(frozen=True, slots=True)
class Guard:
    """A metric that must not get worse by more than `margin` (in its own unit)."""

    metric: str
    margin: float


@dataclass(frozen=True, slots=True)
class GateRules:
    """How much evidence a promotion needs.

    Attributes:
        smallest_effect: the smallest gain worth having, in units of the primary loss.
        alpha: one-sided error rate of each bound.
        mode: "superior", or "non_inferior" with `margin` (for cheaper models).
        margin: loss by which the model may be worse in mode "non_inferior".
        first: what happens to a passing first model, when there is no incumbent.
        guards: further metrics, all of which must pass; () for none.
        unit: unit of the primary loss, for sentences; "" for none.
    """

    smallest_effect: float = 0.01
    alpha: float = 0.05
    mode: Literal["superior", "non_inferior"] = "superior"
    margin: float = 0.0
    first: Literal["promote", "hold"] = "promote"
    guards: Sequence[Guard] = ()
    unit: str = ""


SMALLEST_EXAMPLES = 100
MISSING_SHARE = 0.001
LARGEST_NEED = 10_000_000
BOOTSTRAP_ROUNDS = 2000


def judge(
    fused: Records,
    *,
    best_candidate: tuple[str, Records],
    incumbent: tuple[str, Records] | None,
    rules: GateRules,
    metrics: Mapping[str, Metric],
    problems: Sequence[tuple[str, str]] = (),
) -> Verdict:
    """Decide whether the fused model replaces what is there.

    In this order: a test that is not valid is REFUSE; a failed guard is HOLD; both lower bounds
    above 0 (above -margin in mode "non_inferior") is PROMOTE; an upper bound below the smallest
    effect against either reference is HOLD; anything else is REFUSE, "undecided".

    Args:
        fused: records of the fused model on the gate slice.
        best_candidate: name and gate-slice records of the candidate that was best on the rank
            slice.
        incumbent: name and gate-slice records of the promoted model; None before the first
            promotion.
        rules: how much evidence a promotion needs.
        metrics: metrics of the task's kind by name; every guard's metric is among them.
        problems: (reason, sentence) of each problem that the caller found and that makes the test
            invalid.
    """
    pairs: list[tuple[Role, str, Records]] = [("best_candidate", *best_candidate)]
    if incumbent is not None:
        pairs.insert(0, ("incumbent", *incumbent))
    found = [*problems, *_problems(fused, [records for _, _, records in pairs])]
    unknown = [guard.metric for guard in rules.guards if guard.metric not in metrics]
    if unknown:
        raise ValueError(f"no guard for {unknown[0]}: the kind has {', '.join(metrics)}")
    if found:
        reason, sentence = found[0]
        return Verdict("REFUSE", reason, f"the test is not valid: {sentence}", ())
    aligned = [(role, name, *_aligned(records, fused)) for role, name, records in pairs]
    comparisons = tuple(
        _compare(role, name, reference, model, rules.alpha)
        for role, name, reference, model in aligned
    )
    guards = tuple(
        _guard(guard, name, _bound(metrics[guard.metric], reference, model, rules.alpha))
        for guard in rules.guards
        for _, name, reference, model in aligned
    )
    return _decide(comparisons, guards, rules, is_first=incumbent is None)


def _decide(
    comparisons: tuple[Comparison, ...],
    guards: tuple[GuardResult, ...],
    rules: GateRules,
    *,
    is_first: bool,
) -> Verdict:
    failed = [guard for guard in guards if not guard.passed]
    if failed:
        guard = failed[0]
        text = (
            f"guard {guard.metric} failed against {guard.reference}: its lower bound "
            f"{format_signed(guard.lower)} is not above {format_signed(-guard.margin)}"
        )
        return Verdict("HOLD", "guard", text, comparisons, guards)
    floor = -rules.margin if rules.mode == "non_inferior" else 0.0
    if all(c.lower > floor for c in comparisons):
        text = "; ".join(_describe(c, rules.unit) for c in comparisons)
        if is_first and rules.first == "hold":
            return Verdict("HOLD", "first_held", f"{text}; gate.first is hold", comparisons, guards)
        return Verdict("PROMOTE", "better", text, comparisons, guards)
    worthwhile = rules.smallest_effect if rules.mode == "superior" else floor
    hopeless = [c for c in comparisons if c.upper < worthwhile]
    if hopeless:
        upper = format_signed(hopeless[0].upper)
        bar = "the smallest effect worth having" if rules.mode == "superior" else "the margin"
        text = (
            f"{_describe(hopeless[0], rules.unit)}; the one-sided {100 * (1 - rules.alpha):g} % "
            f"upper bound, {upper}, is below {worthwhile:g}, {bar}"
        )
        return Verdict("HOLD", "not_better", text, comparisons, guards)
    weakest = min(comparisons, key=lambda c: c.lower)
    needed = _examples_needed(weakest, rules)
    text = f"{_describe(weakest, rules.unit)}; needs about {needed:,} examples"
    return Verdict("REFUSE", "undecided", text, comparisons, guards, needed)


def _problems(fused: Records, references: Sequence[Records]) -> list[tuple[str, str]]:
    found = []
    for records in (fused, *references):
        if not np.isfinite(records.losses).all():
            found.append(("not_finite", "a loss is not finite"))
        if len(records.ids) < SMALLEST_EXAMPLES:
            needed = f"{len(records.ids)} gate examples, at least {SMALLEST_EXAMPLES} are needed"
            found.append(("too_few_examples", needed))
        num_clusters = len(set(records.clusters))
        if num_clusters < SMALLEST_CLUSTERS:
            needed = (
                f"{num_clusters} cluster in the gate slice, at least {SMALLEST_CLUSTERS} are needed"
            )
            found.append(("too_few_clusters", needed))
    for records in references:
        here, there = set(records.ids), set(fused.ids)
        if len(here ^ there) > MISSING_SHARE * len(here | there):
            text = f"{len(here ^ there)} of {len(here | there)} examples scored on one side only"
            found.append(("missing_examples", text))
    return found


def _aligned(reference: Records, fused: Records) -> tuple[Records, Records]:
    """Both over the union of examples; one that is missing counts with its side's worst loss."""
    if reference.ids == fused.ids:
        return reference, fused
    order = tuple(dict.fromkeys((*fused.ids, *reference.ids)))
    return _filled(reference, fused, order), _filled(fused, reference, order)


def _filled(records: Records, other: Records, order: Sequence[str]) -> Records:
    """Records over `order`; one that only `other` has gets the worst answer and its own truth."""
    row = {name: i for i, name in enumerate(records.ids)}
    there = {name: i for i, name in enumerate(other.ids)}
    worst = int((records.losses / records.units).argmax())
    filled = _taken(records, np.array([row.get(name, worst) for name in order]))
    missing = [place for place, name in enumerate(order) if name not in row]
    source = [there[order[place]] for place in missing]
    cluster_of = dict(zip(other.ids, other.clusters, strict=True))
    cluster_of |= dict(zip(records.ids, records.clusters, strict=True))
    units, columns = filled.units.copy(), dict(filled.columns)
    units[missing] = other.units[source]
    if "truth" in columns:
        columns["truth"] = columns["truth"].copy()
        columns["truth"][missing] = other.columns["truth"][source]
    losses = filled.losses.copy()
    losses[missing] = records.losses[worst] / records.units[worst] * units[missing]
    clusters = tuple(cluster_of[name] for name in order)
    return replace(
        filled, ids=tuple(order), clusters=clusters, losses=losses, units=units, columns=columns
    )


def _compare(role: Role, name: str, reference: Records, fused: Records, alpha: float) -> Comparison:
    difference = paired_difference(reference, fused)
    low95, high95 = interval(difference)
    return Comparison(
        reference=name,
        role=role,
        mean=difference.mean,
        standard_error=difference.standard_error,
        lower=lower_bound(difference, alpha),
        upper=upper_bound(difference, alpha),
        low95=low95,
        high95=high95,
        degrees=difference.degrees,
        num_examples=difference.num_examples,
        num_clusters=difference.num_clusters,
        detectable=detectable(difference.standard_error, alpha=alpha),
        alpha=alpha,
    )


def _guard(guard: Guard, name: str, lower: float) -> GuardResult:
    return GuardResult(guard.metric, name, lower, guard.margin, lower > -guard.margin)


def _bound(metric: Metric, reference: Records, fused: Records, alpha: float) -> float:
    """Lower bound of how much better the fused model's metric is."""
    sign = 1.0 if metric.is_better_high else -1.0
    if metric.each is not None:
        gains = sign * (metric.each(fused) - metric.each(reference))
        return lower_bound(difference_of(gains, fused.clusters), alpha)
    return _bootstrap_bound(metric, sign, reference, fused, alpha)


def _bootstrap_bound(
    metric: Metric, sign: float, reference: Records, fused: Records, alpha: float
) -> float:
    """Lower percentile bound of the metric's difference, resampling clusters (fixed seed)."""
    _, member = np.unique(np.asarray(fused.clusters), return_inverse=True)
    groups = int(member.max()) + 1
    rows = [np.flatnonzero(member == g) for g in range(groups)]
    generator = np.random.default_rng(0)
    values = []
    for _ in range(BOOTSTRAP_ROUNDS):
        drawn = np.concatenate([rows[g] for g in generator.integers(groups, size=groups)])
        gain = metric.value(_taken(fused, drawn)) - metric.value(_taken(reference, drawn))
        values.append(sign * gain)
    return float(np.quantile(values, alpha))


def _taken(records: Records, rows: npt.NDArray[np.int64]) -> Records:
    """The figures of some rows, without their names."""
    return Records(
        ids=(),
        clusters=(),
        losses=records.losses[rows],
        units=records.units[rows],
        columns={name: values[rows] for name, values in records.columns.items()},
        outputs=None if records.outputs is None else records.outputs[rows],
    )


def _examples_needed(weakest: Comparison, rules: GateRules) -> int:
    """Examples at which the larger of the seen gain and the smallest effect would be detectable.

    The error shrinks with the square root of n, so n grows with (detectable / effect) squared.
    """
    effect = max(weakest.mean, rules.smallest_effect, 1e-9)
    needed = weakest.num_examples * (weakest.detectable / effect) ** 2
    return int(min(max(needed, weakest.num_examples + 1), LARGEST_NEED))


def _describe(comparison: Comparison, unit: str) -> str:
    what = "the best candidate" if comparison.role == "best_candidate" else "the incumbent"
    low, high = format_signed(comparison.low95), format_signed(comparison.high95)
    return (
        f"loss {describe_gain(comparison.mean, unit, than=f'{what} {comparison.reference}')} (95 % "
        f"CI of the gain {low} to {high}, n = {comparison.num_examples})"
    )
