"""A small object and the etag of exactly that content, for a compare-and-swap."""

from dataclasses import dataclass

from cluster.errors import NotFoundError, PreconditionError
from cluster.stores.store import Store


@dataclass(frozen=True, slots=True)
class Settled:
    """An object's content and its etag."""

    content: bytes
    etag: str


def read_settled(store: Store, key: str, *, known: Settled | None = None) -> Settled | None:
    """An object as it stands; asked again where it was written between the two questions.

    Args:
        store: the store that holds the object.
        key: key of the object.
        known: the object as the caller read it before; returned without a new read while it is
            unchanged.

    Returns:
        None where there is no such object.
    """
    while True:
        try:
            etag = store.head(key).etag
            if known is not None and known.etag == etag:
                return known
            return Settled(store.read(key, if_match=etag), etag)
        except NotFoundError:
            return None
        except PreconditionError:
            continue
