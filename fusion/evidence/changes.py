"""The examples on which two models differ most: evidence that a person can read."""

from dataclasses import dataclass

import numpy as np

from fusion.scores.records import Records

# Differences of an example within this share of its larger loss are those of rounding.
SMALLEST_CHANGE = 1e-5


@dataclass(frozen=True, slots=True)
class Change:
    """One example before and after.

    Attributes:
        id: name of the example.
        loss_reference: loss of the reference, a unit.
        loss_model: loss of the model, a unit.
    """

    id: str
    loss_reference: float
    loss_model: float

    @property
    def gain(self) -> float:
        """Positive where the model is better."""
        return self.loss_reference - self.loss_model


def find_changes(reference: Records, model: Records, *, most: int) -> tuple[Change, ...]:
    """The examples that changed most, the largest first, equal ones by name.

    Args:
        reference: records of the model that is compared with.
        model: records of the other; examples of one side alone do not count.
        most: number of examples.
    """
    before = dict(zip(reference.ids, reference.losses / reference.units, strict=True))
    after = dict(zip(model.ids, model.losses / model.units, strict=True))
    found = [
        Change(name, float(before[name]), float(after[name])) for name in after if name in before
    ]
    told = [c for c in found if np.isfinite(c.gain) and abs(c.gain) > _rounding(c)]
    return tuple(sorted(told, key=lambda c: (-abs(c.gain), c.id))[:most])


def _rounding(change: Change) -> float:
    return SMALLEST_CHANGE * max(change.loss_reference, change.loss_model)
