"""A store in which something happens at one chosen operation."""

import contextlib

from cluster.errors import ClusterError, PreconditionError

OPERATIONS = ("head", "list", "read", "read_into", "put", "delete", "start_upload", "list_uploads")


class Crash(Exception):
    """The process ended here."""


class InterruptedStore:
    """Another store; its operations are counted, and at one of them `event` takes place.

    `event` is "before" or "after" (the process dies there), "twice" (the answer is lost and the
    client sends the request again), or a function that is called before the operation.
    """

    is_remote = False

    def __init__(self, store, at=-1, event="before"):
        self._store = store
        self._at = at
        self._event = event
        self.count = 0
        self.uri = store.uri

    def __getattr__(self, name):
        real = getattr(self._store, name)
        if name not in OPERATIONS:
            return real

        def call(*arguments, **options):
            number, self.count = self.count, self.count + 1
            if number != self._at:
                return real(*arguments, **options)
            return self._interrupt(real, name, arguments, options)

        return call

    def _interrupt(self, real, name, arguments, options):
        if self._event == "before":
            raise Crash
        if self._event == "after":
            with contextlib.suppress(ClusterError):
                real(*arguments, **options)
            raise Crash
        if callable(self._event):
            self._event()
        found = real(*arguments, **options)
        if self._event == "twice" and name == "put":
            try:
                return real(*arguments, **options)
            except PreconditionError:
                raise PreconditionError("the second try found the first") from None
        return found
