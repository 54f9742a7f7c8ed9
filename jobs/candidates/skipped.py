"""A candidate that was left out, and why."""

from dataclasses import dataclass

from jobs.console.sizes import format_wait


@dataclass(frozen=True, slots=True)
class Skipped:
    """A checkpoint that was found and is not used, with the reason.

    Attributes:
        name: name of the checkpoint.
        uri: URI of the checkpoint.
        code: code of the error that excludes the checkpoint, or a word.
        reason: reason of the exclusion, for people.
        wait_seconds: seconds after which the checkpoint has settled, where that is all that it
            lacks; else 0.
        hint: what to do about it; "" where the reason says all.
    """

    name: str
    uri: str
    code: str
    reason: str
    wait_seconds: float = 0.0
    hint: str = ""


def describe_skipped(entry: Skipped) -> str:
    """Code, reason and next step, in a line."""
    return f"{entry.code} {explain(entry)}"


def explain(entry: Skipped) -> str:
    """Reason and next step."""
    return f"{entry.reason}; {entry.hint}" if entry.hint else entry.reason


def settle_advice(wait_seconds: float) -> str:
    """What to do about a candidate that has yet to settle."""
    return f"wait {format_wait(wait_seconds)} or lower select.settle"
