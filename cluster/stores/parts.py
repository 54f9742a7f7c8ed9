"""What stores share: a part kept in memory until it is sent, and a reader that repeats its pin."""

from collections.abc import Callable
from typing import TYPE_CHECKING

from cluster.digests import RunningDigest

if TYPE_CHECKING:
    from cluster.stores.store import Part, Store

Send = Callable[[memoryview, RunningDigest], "Part"]


class BufferedPartWriter:
    """Keeps one part in memory and sends it as one request."""

    def __init__(self, send: Send, *, size: int, with_sha256: bool) -> None:
        self._send = send
        self._content = bytearray(size)
        self._digest = RunningDigest(with_sha256=with_sha256)

    def append(self, data: memoryview, /) -> None:
        """Take the next bytes."""
        first = self._digest.size
        self._digest.update(data)
        self._content[first : first + len(data)] = data

    def finish(self) -> "Part":
        """Send the part."""
        check_size(self._digest.size, len(self._content))
        return self._send(memoryview(self._content), self._digest)

    def discard(self) -> None:
        """Forget the bytes."""
        self._content = bytearray()


def check_size(found: int, announced: int) -> None:
    """A part has as many bytes as were announced.

    Raises:
        ValueError: the part has more or fewer bytes than were announced.
    """
    if found != announced:
        raise ValueError(f"a part of {announced} bytes was announced, {found} came")


class PinnedReader:
    """Reads one object through its store; the pin travels with every request."""

    def __init__(self, store: "Store", key: str, if_match: str | None, version: str | None) -> None:
        self._store = store
        self._key = key
        self._if_match = if_match
        self._version = version

    def read_into(self, buffer: memoryview, /, *, start: int) -> None:
        """As the store does."""
        self._store.read_into(
            self._key, buffer, start=start, if_match=self._if_match, version=self._version
        )

    def close(self) -> None:
        """Nothing is kept open."""
