"""Objects kept open between ranged reads: as many as are of use, and never more than may be."""

import contextlib
import threading
from collections import Counter, OrderedDict
from collections.abc import Callable, Hashable, Iterator

from cluster.errors import OpenFilesError
from cluster.stores.store import Reader


class OpenReaders:
    """Open objects by any key; the longest unused are closed. Safe between threads."""

    def __init__(self, limit: int) -> None:
        """At most `limit` are kept open; those in use at one time may be more."""
        self._limit = limit
        self._open: OrderedDict[Hashable, Reader] = OrderedDict()
        self._users: Counter[Hashable] = Counter()
        self._lock = threading.Lock()

    @contextlib.contextmanager
    def use(self, place: Hashable, open_reader: Callable[[], Reader]) -> Iterator[Reader]:
        """The open object of this key, which is not closed while the block runs.

        Raises what `open_reader` does; where no more files may be open, all that are idle here are
        closed before it is asked once more.
        """
        with self._lock:
            reader = self._open.get(place)
            if reader is None:
                try:
                    reader = open_reader()
                except OpenFilesError:
                    self._close_idle(keep=0)
                    reader = open_reader()
                self._open[place] = reader
            self._open.move_to_end(place)
            self._users[place] += 1
        try:
            yield reader
        finally:
            with self._lock:
                self._users[place] -= 1
                self._close_idle(keep=self._limit)

    def close(self) -> None:
        """Close all that nobody uses. Safe to repeat."""
        with self._lock:
            self._close_idle(keep=0)

    def _close_idle(self, *, keep: int) -> None:
        excess = len(self._open) - keep
        idle = [place for place in self._open if not self._users[place]]
        for place in idle[: max(0, excess)]:
            self._open.pop(place).close()
            del self._users[place]
