"""What an output keeps, read so that a damaged object is told by its place."""

from typing import TypeVar

from cluster.stores.store import Store
from fusion.canonical import from_json
from fusion.errors import ManifestError

Value = TypeVar("Value")
WAY_OUT = (
    "bring it back from a copy or an older version of the object; where a newer metafuse wrote it, "
    "use that one; `metafuse doctor` tells which one this is"
)


def parse_stored(kind: type[Value], content: bytes, *, store: Store, key: str) -> Value:
    """The value of an object that was read.

    Raises:
        ManifestError: the object is not what was written, or a newer release wrote it; names it.
    """
    try:
        return from_json(kind, content)
    except ManifestError as error:
        raise ManifestError(
            f"{store.uri}/{key} is damaged, or of another release: {error}. Nothing was changed",
            f"{error.hint or WAY_OUT}; metafuse history {store.uri} lists the runs",
        ) from None


def read_stored(kind: type[Value], store: Store, key: str) -> Value:
    """The value of an object.

    Raises:
        NotFoundError: there is none.
        ManifestError: as `parse_stored`.
    """
    return parse_stored(kind, store.read(key), store=store, key=key)
