"""What the gate decided and what it rests on: plain values, without the statistics behind them."""

from dataclasses import dataclass
from typing import Literal

Role = Literal["incumbent", "best_candidate"]
Decision = Literal["PROMOTE", "HOLD", "REFUSE"]


@dataclass(frozen=True, slots=True)
class Comparison:
    """Paired difference d = loss(reference) - loss(fused); positive: the fused model is better.

    Attributes:
        reference: name of the reference.
        role: role of the reference: "incumbent" or "best_candidate".
        mean: mean of d over examples.
        standard_error: clustered standard error of the mean.
        lower: one-sided lower bound of the mean at `alpha`.
        upper: one-sided upper bound of the mean at `alpha`.
        low95: lower end of the two-sided 95 % interval of the mean.
        high95: upper end of the two-sided 95 % interval of the mean.
        degrees: degrees of freedom, clusters - 1.
        num_examples: number of examples, n.
        num_clusters: number of clusters, G.
        detectable: smallest true effect that is seen with power 0.8 at `alpha`.
        alpha: one-sided error rate of `lower` and of `upper`.
    """

    reference: str
    role: Role
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
    alpha: float = 0.05


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
            "first_held", or what made the test invalid ("not_finite", "too_few_examples",
            "too_few_clusters", "missing_examples", "rescoring_differs").
        sentence: the reason for people, with numbers.
        comparisons: one comparison for each reference.
        guards: one result for each guard and reference.
        examples_needed: about how many examples would decide an "undecided" verdict; else None.
    """

    decision: Decision
    reason: str
    sentence: str
    comparisons: tuple[Comparison, ...]
    guards: tuple[GuardResult, ...] = ()
    examples_needed: int | None = None


@dataclass(frozen=True, slots=True)
class AccuracyChange:
    """How the accuracy differs, on the same examples; no part of a verdict.

    Attributes:
        mean: accuracy of the model minus that of the reference.
        low95: lower end of the two-sided, clustered 95 % interval of the mean.
        high95: upper end of the two-sided, clustered 95 % interval of the mean.
        num_gained: examples that only the model has right.
        num_lost: examples that only the reference has right.
        p_value: p value of the two-sided exact McNemar test where fewer than 25 examples differ;
            else None.
    """

    mean: float
    low95: float
    high95: float
    num_gained: int
    num_lost: int
    p_value: float | None
