"""A candidate that was left out, and why."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Skipped:
    """A checkpoint that was found and is not used, with the reason."""

    name: str
    uri: str
    code: str
    reason: str
