"""Pins of objects, and what is said of a source that is no longer the pinned one."""

import contextlib

from cluster.errors import NotFoundError
from cluster.stores.seals import find_checksum, seal, split_seal
from cluster.stores.store import ObjectInfo, Store
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


def make_pin(store: Store, entry: ObjectInfo) -> Pin:
    """The pin of an object as the store describes it now; of a local file some blocks are read.

    Raises:
        NotFoundError, PreconditionError: it is not what was described any more.
    """
    if not entry.changed_ns:
        return Pin(entry.size, entry.etag, entry.version)
    with contextlib.closing(store.open_reader(entry.key, if_match=entry.etag)) as reader:
        checksum = find_checksum(reader, entry.size)
    return Pin(entry.size, seal(entry.etag, entry.changed_ns, checksum), entry.version)


def is_same_pin(pin: Pin, now: Pin | None) -> bool:
    """Whether two pins are of the same bytes.

    One may be from before etags were sealed; of two that differ in the change time alone the
    checksum decides.
    """
    if now is None or (pin.size, pin.version) != (now.size, now.version):
        return False
    (etag, _, checksum), (etag_now, _, checksum_now) = split_seal(pin.etag), split_seal(now.etag)
    return etag == etag_now and (not checksum or not checksum_now or checksum == checksum_now)


def find_pin(store: Store, key: str) -> Pin | None:
    """What the store says of the object now; None where it is gone."""
    try:
        entry = store.head(key)
    except NotFoundError:
        return None
    return make_pin(store, entry)


def _describe(pin: Pin | None) -> str:
    if pin is None:
        return "gone"
    version = f", version {pin.version}" if pin.version else ""
    return f"{pin.etag} ({pin.size:,} bytes{version})"
