"""The pointer: which run's model consumers get, and who moved it."""

from dataclasses import dataclass
from typing import Literal

from fusion.canonical import SCHEMA

Action = Literal["promote", "rollback", "hold", "unhold", "gc"]


@dataclass(frozen=True, slots=True)
class PointerChange:
    """Why a pointer is as it is.

    Attributes:
        action: promote (by a run or by hand), rollback, hold, unhold, or gc, which only raises the
            epoch.
        by: user@host (process) that wrote the change.
        at: time of the change, ISO 8601 in UTC.
        reason: reason of the change, for people.
        id: id of this one write; a writer whose answer was lost finds its own write by it.
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
        run: name of the promoted run, with attempt.
        model: key of the model's folder below the output.
        manifest_sha256: sha256 of the promoted run's manifest.
        logical_date: logical date of the run that made the model.
        previous: name of the run that was promoted before this one; "" at first.
        epoch: number of the write, raised by 1 at every write.
        high_water: largest (logical date, attempt) ever promoted.
        hold: why automatic promotion is off; "" when it is on.
        changed: who wrote this pointer, when and why.
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
