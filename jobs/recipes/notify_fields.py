"""What may stand in a recipe's notify block: a variable's name, events, hosts; never an address."""

import re
from typing import Any, Literal

Event = Literal["promoted", "held", "refused", "failed", "nothing_new"]
USUAL_EVENTS: tuple[Event, ...] = ("promoted", "held", "refused", "failed")
# A recipe from elsewhere cannot have another secret of the environment read as an address.
VARIABLE = re.compile(r"METAFUSE_WEBHOOK[A-Z0-9_]*")
LABEL = r"[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?"
HOST = re.compile(rf"{LABEL}(?:\.{LABEL})*(?::[0-9]{{1,5}})?|\[[0-9a-f:.]+\](?::[0-9]{{1,5}})?")


def check_variable(text: str) -> str:
    """The name of the environment variable that holds the address.

    Raises:
        ValueError: the text is neither METAFUSE_WEBHOOK nor a name that begins so.
    """
    if not VARIABLE.fullmatch(text):
        raise ValueError(
            f"expected METAFUSE_WEBHOOK or a name that begins so, found {text!r}"
            if re.fullmatch(r"\w{1,64}", text)
            else "expected METAFUSE_WEBHOOK or a name that begins so; the address itself stays in "
            "that variable"
        )
    return text


def check_host(text: str) -> str:
    """A host, or host:port, to which messages may go.

    Raises:
        ValueError: something else, such as a URL.
    """
    if not HOST.fullmatch(text.lower()):
        raise ValueError("expected a host such as hooks.slack.com, without https:// and path")
    return text.lower()


def has_address(block: Any) -> bool:
    """Whether a notify block holds the address itself, which is as good as a password."""
    return isinstance(block, dict) and "url" in block
