"""What is said of a source that is no longer the pinned one."""

from cluster.errors import NotFoundError
from cluster.stores.store import Store
from fusion.checkpoints.checkpoint import Pin
from jobs.errors import SourceChangedError

AGAIN = "run the same command again: it plans anew with what is there now"


def changed(store: Store, key: str, pin: Pin) -> SourceChangedError:
    """The error that names the object, its old pin and its new one."""
    return changes_error([describe_change(f"{store.uri}/{key}", pin, find_pin(store, key))])


def changes_error(changes: list[str]) -> SourceChangedError:
    """One error for all changes, as `describe_change` words them."""
    return SourceChangedError("\n".join(changes) + "\nNothing was published.", AGAIN)


def describe_change(where: str, old: Pin, new: Pin | None) -> str:
    """One line about one object; `new` is None where it is gone."""
    return f"{where} was {_describe(old)} when it was pinned and is {_describe(new)} now"


def find_pin(store: Store, key: str) -> Pin | None:
    """What the store says of the object now; None where it is gone."""
    try:
        entry = store.head(key)
    except NotFoundError:
        return None
    return Pin(entry.size, entry.etag, entry.version)


def _describe(pin: Pin | None) -> str:
    if pin is None:
        return "gone"
    version = f", version {pin.version}" if pin.version else ""
    return f"{pin.etag} ({pin.size:,} bytes{version})"
