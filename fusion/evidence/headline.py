"""The sentence above a report: what to do, and the figures that it rests on."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from fusion.evidence.verdict import Comparison, Verdict
from fusion.evidence.wording import describe_gain, format_amount, format_signed

Mode = Literal["superior", "non_inferior"]
ALLOWED = "; up to {margin} higher was allowed"
USE = "Use the fused model: its {measure} is {all}"
WAIT = "The fused model waits for a person, since gate.first is hold: its {measure} is {all}"
GUARD = "Keep {kept}: the fused model's {guard} may be worse than that of {rival} by more than the "
GUARD += "guard's margin, {guard_margin}"
WORSE = "Keep {kept}: the fused model's {measure} is {worst}"
OPEN = "Keep {kept} for now: the fused model's {measure} is {weakest}, and {num_examples} examples "
OPEN += "are too few to be sure; about {needed} are needed"
# Decision and reason of a verdict, then the mode of the gate. A reason without a row of its own, or
# a verdict that compared nothing, has that of its decision and "".
HEADLINES: Mapping[tuple[str, str], Mapping[Mode, str]] = {
    ("PROMOTE", "better"): {"superior": USE, "non_inferior": USE + ALLOWED},
    ("PROMOTE", ""): dict.fromkeys(("superior", "non_inferior"), "Use the fused model: {why}"),
    ("HOLD", "first_held"): {"superior": WAIT, "non_inferior": WAIT + ALLOWED},
    ("HOLD", "guard"): {"superior": GUARD, "non_inferior": GUARD},
    ("HOLD", "not_better"): {"superior": WORSE + "{too_little}", "non_inferior": WORSE + ALLOWED},
    ("HOLD", ""): dict.fromkeys(("superior", "non_inferior"), "Keep {kept}: {why}"),
    ("REFUSE", "undecided"): {"superior": OPEN, "non_inferior": OPEN + ALLOWED},
    ("REFUSE", ""): dict.fromkeys(("superior", "non_inferior"), "Keep {kept} for now: {why}"),
}


@dataclass(frozen=True, slots=True)
class Terms:
    """What a verdict does not say of itself.

    Attributes:
        mode: mode of the gate.
        margin: loss by which the model may be worse in mode "non_inferior".
        measure: what the loss is called: loss, mean squared error.
        unit: unit of the loss; "" for none.
        best: name of the best candidate.
        incumbent: name of the promoted model's run; "" for none.
    """

    mode: Mode
    margin: float
    measure: str
    unit: str
    best: str
    incumbent: str


def write_headline(verdict: Verdict, terms: Terms) -> str:
    """One sentence with subject, unit and consequence, to stand beside the decision."""
    row = (verdict.decision, verdict.reason)
    if row not in HEADLINES or not verdict.comparisons:
        row = (verdict.decision, "")
    template = HEADLINES[row][terms.mode]
    return template.format(**_facts(verdict, terms))


def _facts(verdict: Verdict, terms: Terms) -> Mapping[str, str]:
    found = {
        "measure": terms.measure,
        "margin": format_amount(terms.margin, terms.unit),
        "kept": f"the incumbent {terms.incumbent}"
        if terms.incumbent
        else f"candidate {terms.best}",
        "why": verdict.sentence,
    }
    failed = next((guard for guard in verdict.guards if not guard.passed), None)
    if failed is not None:
        found |= {
            "guard": failed.metric.replace("_", " "),
            "rival": failed.reference,
            "guard_margin": f"{failed.margin:g}",
        }
    if verdict.comparisons:
        worst = min(verdict.comparisons, key=lambda c: c.upper)
        weakest = min(verdict.comparisons, key=lambda c: c.lower)
        gains = [describe_gain(c.mean, terms.unit, than=_name(c)) for c in verdict.comparisons]
        found |= {
            "all": " and ".join(gains),
            "worst": _gain(worst, terms),
            "too_little": ", too little to matter" * format_signed(worst.mean).startswith("+"),
            "weakest": _gain(weakest, terms),
            "num_examples": f"{weakest.num_examples:,}",
            "needed": f"{verdict.examples_needed or 0:,}",
        }
    return found


def _gain(comparison: Comparison, terms: Terms) -> str:
    """The gain over one reference, which is not named where it is what is kept."""
    kept = terms.incumbent or terms.best
    than = "" if comparison.reference == kept else _name(comparison)
    return describe_gain(comparison.mean, terms.unit, than=than)


def _name(comparison: Comparison) -> str:
    what = "the incumbent" if comparison.role == "incumbent" else "the best candidate"
    return f"{what} {comparison.reference}"
