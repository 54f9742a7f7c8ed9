"""Conditional puts: the first writer's bytes stand."""

from contextlib import suppress

from cluster.errors import NotFoundError, PreconditionError
from cluster.stores.store import Store
from fusion.errors import ManifestError
from jobs.outputs.keys import POINTER_KEY


def keep_first(store: Store, key: str, content: bytes) -> None:
    """Write an object that a run writes once; an object of another driver of the run stands.

    A driver that wakes up after the run was finished thus changes nothing.
    """
    with suppress(PreconditionError):
        store.put(key, content, if_absent=True)


def put_unless_same(store: Store, key: str, content: bytes, *, may_replace: bool = True) -> None:
    """Make sure that an object has this content; it is not written again if it has.

    Raises:
        ManifestError: the object has other content, and must not be replaced.
    """
    try:
        store.put(key, content, if_absent=True)
    except PreconditionError:
        if store.read(key) == content:
            return
        if not may_replace:
            raise ManifestError(
                f"{store.uri}/{key} is not what {store.uri}/{POINTER_KEY} was at that epoch; the "
                "pointer was not moved",
                f"look at both: metafuse status {store.uri}",
            ) from None
        store.put(key, content)


def read_or_none(store: Store, key: str) -> bytes | None:
    """An object's bytes; None where there is no such object."""
    try:
        return store.read(key)
    except NotFoundError:
        return None
