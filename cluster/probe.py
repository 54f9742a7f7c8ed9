"""What a store can really do, found out by doing it on a key that is removed afterwards."""

import uuid
from dataclasses import dataclass

from cluster.errors import ClusterError, PreconditionError
from cluster.store import Store


@dataclass(frozen=True, slots=True)
class StoreFacts:
    """What a probe saw.

    Attributes:
        is_writable: a small object could be written, read and removed.
        has_conditional_create: a second "only if absent" write was refused.
        has_conditional_update: a write against an old etag was refused.
        problem: why the store is not writable, "" if it is.
    """

    is_writable: bool
    has_conditional_create: bool
    has_conditional_update: bool
    problem: str


def probe_store(store: Store) -> StoreFacts:
    """Write, read and remove one small object under a random key."""
    key = f"probe-{uuid.uuid4().hex}"
    try:
        first = store.put(key, b"1", if_absent=True)
    except ClusterError as error:
        return StoreFacts(False, False, False, str(error))  # noqa: FBT003  # fields by position
    try:
        create = _is_refused(store, key, if_absent=True, if_match=None)
        store.put(key, b"22")
        update = _is_refused(store, key, if_absent=False, if_match=first.etag)
        readable = store.read(key) == b"22"
    except ClusterError as error:
        return StoreFacts(False, False, False, str(error))  # noqa: FBT003  # fields by position
    finally:
        store.delete(key)
    return StoreFacts(readable, create, update, "" if readable else "read other bytes than written")


def _is_refused(store: Store, key: str, *, if_absent: bool, if_match: str | None) -> bool:
    try:
        store.put(key, b"333", if_absent=if_absent, if_match=if_match)
    except PreconditionError:
        return True
    return False
