"""Is the fused model better? A verdict from paired differences, with nothing hidden.

The rules are those of a one-sided, paired, clustered t-test against two references.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

Decision = Literal["PROMOTE", "HOLD", "REFUSE"]


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
        margin: how much worse is still good enough in mode "non_inferior".
        first: what a passing first model does when there is no incumbent.
        guards: further metrics, all of which must pass.
    """

    smallest_effect: float = 0.01
    alpha: float = 0.05
    mode: Literal["superior", "non_inferior"] = "superior"
    margin: float = 0.0
    first: Literal["promote", "hold"] = "promote"
    guards: Sequence[Guard] = ()


@dataclass(frozen=True, slots=True)
class Comparison:
    """Paired difference d = loss(reference) - loss(fused); positive: the fused model is better.

    Attributes:
        reference: its name.
        role: "incumbent" or "best_candidate".
        mean: mean of d over examples.
        standard_error: clustered.
        lower: one-sided lower bound at alpha.
        upper: one-sided upper bound at alpha.
        low95: lower end of the two-sided 95 % interval.
        high95: its upper end.
        degrees: degrees of freedom, clusters - 1.
        num_examples: n.
        num_clusters: G.
        detectable: smallest true effect seen with power 0.8 at alpha.
    """

    reference: str
    role: Literal["incumbent", "best_candidate"]
    mean: float
    standard_error: float
    lower: float
    upper: float
    low95: float
    high95: float
    degrees: int
    num_examples: int
    num_clusters: int
    detectable: float


@dataclass(frozen=True, slots=True)
class GuardResult:
    """One guard against one reference; `lower` is the bound that had to exceed -margin."""

    metric: str
    reference: str
    lower: float
    margin: float
    passed: bool


@dataclass(frozen=True, slots=True)
class Verdict:
    """The decision and everything it rests on.

    Attributes:
        decision: PROMOTE, HOLD or REFUSE.
        reason: short and stable, for machines: "better", "guard", "not_better", "undecided",
            "first_held", or what made the test invalid ("too_few_clusters", "not_paired",
            "not_finite", "missing_examples", "rescoring_differs", "slices_overlap").
        sentence: the same for people, with numbers.
        comparisons: one a reference.
        guards: one a guard and reference.
        examples_needed: for "undecided", about how many examples would decide; else None.
    """

    decision: Decision
    reason: str
    sentence: str
    comparisons: tuple[Comparison, ...]
    guards: tuple[GuardResult, ...] = ()
    examples_needed: int | None = None
