"""The pointer: which run's model consumers get, and who moved it."""

from dataclasses import dataclass
from typing import Literal

from fusion.canonical import SCHEMA

Action = Literal["promote", "rollback", "hold", "unhold", "gc"]


@dataclass(frozen=True, slots=True)
class PointerChange:
    """Why a pointer is as it is.

    Attributes:
        action: promote (by a run or by hand), rollback, hold, unhold, or gc, which only counts on.
        by: user@host (process) that wrote it.
        at: ISO 8601, UTC.
        reason: for people.
        id: of this one write; tells a writer whose answer was lost that the write is its own.
    """

    action: Action
    by: str
    at: str
    reason: str
    id: str


NO_CHANGE = PointerChange("promote", "", "", "", "")


@dataclass(frozen=True, slots=True)
class Pointer:
    """`latest.json`: which run's model consumers use.

    Attributes:
        recipe: name of the recipe that owns the pointer.
        run: run name (with attempt).
        model: key of the model's folder below the output.
        manifest_sha256: of the run's manifest.
        logical_date: of the run that made the model.
        previous: the run that stood here before this one, "" at first.
        epoch: +1 at every write.
        high_water: largest (logical date, attempt) ever promoted.
        hold: why automatic promotion is off; "" when it is on.
        changed: who wrote it, when and why.
    """

    recipe: str
    run: str
    model: str
    manifest_sha256: str
    logical_date: str
    previous: str
    epoch: int
    high_water: tuple[str, int]
    hold: str = ""
    changed: PointerChange = NO_CHANGE
    schema: int = SCHEMA
