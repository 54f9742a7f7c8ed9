"""What a verb that is interrupted leaves behind: told as it is."""

from collections.abc import Sequence

# These keep nothing of what they have done: they read, or answer, or work in a temporary folder.
READERS = (
    "plan", "predict", "evaluate", "resolve", "report", "status", "history", "verify", "doctor",
    "logs", "demo", "list", "export",
)  # fmt: skip


def describe_interrupt(words: Sequence[str]) -> tuple[str, str]:
    """(what is kept, hint) for a command line that a signal has stopped.

    Args:
        words: words of the command line after the program's name, or the verbs alone.
    """
    verbs = [word for word in words if not word.startswith("-")]
    verb = verbs[1] if verbs[:1] == ["schedule"] and len(verbs) > 1 else "".join(verbs[:1])
    if verb in READERS:
        return "nothing of it is kept", "the same command starts anew"
    return "what was done is kept", "the same command continues"
