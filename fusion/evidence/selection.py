"""Which candidates enter the average, and why."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

from fusion.scores.contract import TaskSpec
from fusion.scores.records import Records


@dataclass(frozen=True, slots=True)
class SelectRules:
    """Limits; None is no limit."""

    keep: int | None = None
    max_parameters: int | None = None
    max_bytes: int | None = None


@dataclass(frozen=True, slots=True)
class Measured:
    """A candidate after evaluation on the rank slice.

    Attributes:
        name: short name of the candidate.
        loss: loss on the rank slice.
        num_parameters: number of elements of all tensors.
        num_bytes: bytes of all tensors.
        health: what looks damaged in the tensors; "" for nothing.
        guess: why the candidate is no better than guessing; "" if it is better.
    """

    name: str
    loss: float
    num_parameters: int
    num_bytes: int
    health: str = ""
    guess: str = ""


@dataclass(frozen=True, slots=True)
class Choice:
    """What became of a candidate, with a reason for people."""

    name: str
    is_kept: bool
    reason: str


def choose(measured: Sequence[Measured], rules: SelectRules) -> tuple[Choice, ...]:
    """Drop the damaged, the too large and the useless, then keep the best by loss.

    Ties go to the earlier name, so the choice does not depend on the order of evaluation.

    Returns:
        One choice a candidate, in the given order.
    """
    dropped = {m.name: reason for m in measured if (reason := _refusal(m, rules))}
    ranked = sorted((m for m in measured if m.name not in dropped), key=lambda m: (m.loss, m.name))
    reasons = dict(dropped)
    kept = ranked[: rules.keep] if rules.keep is not None else ranked
    for place, entry in enumerate(ranked):
        text = f"rank {place + 1} of {len(ranked)}"
        if place >= len(kept):
            text += f", keep is {rules.keep}"
        reasons[entry.name] = text
    chosen = {entry.name for entry in kept}
    return tuple(Choice(m.name, m.name in chosen, reasons[m.name]) for m in measured)


def describe_guess(records: Records, spec: TaskSpec, *, floor: float) -> str:
    """Why a model is no better than guessing; "" if it is better.

    Args:
        records: records of the model on the rank slice.
        spec: spec of the task's kind.
        floor: loss of a predictor that knows only the truths' distribution.
    """
    if not records.loss > floor:
        return ""
    text = f"no better than guessing: loss {records.loss:.4g} ({spec.floor}: {floor:.4g})"
    if spec.knows is None:
        return text
    is_known, words = spec.knows(records)
    return "" if is_known else f"{text}, {words}"


def find_excess(num_parameters: int, num_bytes: int, rules: SelectRules) -> str:
    """Which limit a candidate exceeds, for people; "" if none. Known before it is evaluated."""
    if rules.max_parameters is not None and num_parameters > rules.max_parameters:
        return f"{num_parameters:,} parameters, limit {rules.max_parameters:,}"
    if rules.max_bytes is not None and num_bytes > rules.max_bytes:
        return f"{num_bytes:,} bytes, limit {rules.max_bytes:,}"
    return ""


def _refusal(entry: Measured, rules: SelectRules) -> str:
    if not math.isfinite(entry.loss):
        return f"loss is {entry.loss}"
    if entry.health:
        return f"looks damaged: {entry.health}"
    if entry.guess:
        return entry.guess
    return find_excess(entry.num_parameters, entry.num_bytes, rules)
