"""Stop a process before or after its n-th storage operation, whatever store it uses.

While `stoppable` is in force, `open_store` gives stores that count every operation: those of the
store itself and of its uploads, part writers and readers. Once stopped, nothing reaches storage
any more, as after a kill: no clean-up either. Heartbeat and progress are not counted, because
the times of their writes are not known; they stop with the rest.
"""

import os
import signal
import threading
from collections.abc import Callable
from contextlib import contextmanager
from dataclasses import dataclass, field

import cluster.stores.local.store
import cluster.stores.memory
import cluster.stores.s3.store

CLASSES = {
    "memory": cluster.stores.memory,
    "local": cluster.stores.local.store,
    "s3": cluster.stores.s3.store,
}
NAMES = {"memory": "MemoryStore", "local": "LocalStore", "s3": "S3Store"}


class Stopped(BaseException):
    """The end of a process. Not an Exception: nothing may take it for an error and go on."""


@dataclass
class Stopper:
    """Counts operations, and stops at one of them.

    Attributes:
        at: the operation, from 1; 0 for none.
        is_after: whether the operation still takes effect.
        is_kill: whether the process really ends, by SIGKILL.
        sleep: where it is given, the process does not end but calls this, and goes on after it.
        seen: (verb, key) of every operation.
        is_stopped: whether it was reached.
    """

    at: int = 0
    is_after: bool = False
    is_kill: bool = False
    sleep: Callable[[], None] | None = None
    seen: list[tuple[str, str]] = field(default_factory=list)
    is_stopped: bool = False
    lock: threading.Lock = field(default_factory=threading.Lock)

    def strike(self, verb, key, call):
        """Do an operation, unless the process has come to its end."""
        if threading.current_thread().name in ("lease", "progress"):
            with self.lock:  # it sleeps with the rest
                self._refuse()
            return call()
        with self.lock:
            self._refuse()
            self.seen.append((verb, key))
            if len(self.seen) == self.at and self.sleep is not None:
                return self._sleep_around(call)
            if len(self.seen) == self.at:
                # Under the lock, so that no other thread gets past the last operation.
                try:
                    if self.is_after:
                        call()
                finally:
                    self._stop()  # the caller does not hear what the operation answered
        return call()

    def _sleep_around(self, call):
        if not self.is_after:
            self.sleep()
            return call()
        try:
            return call()
        finally:
            self.sleep()

    def _refuse(self):
        if self.is_stopped:
            raise Stopped

    def _stop(self):
        if self.is_kill:
            os.kill(os.getpid(), signal.SIGKILL)
        self.is_stopped = True
        raise Stopped(f"at operation {self.at}: {self.seen[-1]}")


@contextmanager
def stoppable(stopper):
    """All stores that are opened meanwhile obey the stopper."""
    real = {kind: getattr(module, NAMES[kind]) for kind, module in CLASSES.items()}
    for kind, module in CLASSES.items():
        setattr(
            module, NAMES[kind], lambda uri, make=real[kind]: StoppableStore(make(uri), stopper)
        )
    try:
        yield stopper
    finally:
        for kind, module in CLASSES.items():
            setattr(module, NAMES[kind], real[kind])


class StoppableStore:
    """A store whose operations are counted."""

    def __init__(self, store, stopper):
        self._store, self._stopper = store, stopper
        self.uri, self.is_remote = store.uri, store.is_remote

    def __getattr__(self, verb):
        call = getattr(self._store, verb)
        return lambda key, *args, **more: self._stopper.strike(
            verb, key, lambda: call(key, *args, **more)
        )

    def list(self, prefix="", /):
        entries = self._stopper.strike("list", prefix, lambda: [*self._store.list(prefix)])
        return iter(entries)

    def list_uploads(self, prefix="", /):
        uploads = self._stopper.strike(
            "list_uploads", prefix, lambda: [*self._store.list_uploads(prefix)]
        )
        return iter(uploads)

    def open_reader(self, key, /, **pin):
        reader = self._stopper.strike(
            "open_reader", key, lambda: self._store.open_reader(key, **pin)
        )
        return Stoppable(reader, self._stopper, key)

    def start_upload(self, key, /, **more):
        upload = self._stopper.strike(
            "start_upload", key, lambda: self._store.start_upload(key, **more)
        )
        return Stoppable(upload, self._stopper, key)

    def resume_upload(self, key, upload_id, /, **more):
        return Stoppable(self._store.resume_upload(key, upload_id, **more), self._stopper, key)


class Stoppable:
    """An upload, a part writer or a reader whose operations are counted."""

    def __init__(self, thing, stopper, key):
        self._thing, self._stopper, self.key = thing, stopper, key
        self.id = getattr(thing, "id", "")

    def __getattr__(self, verb):
        call = getattr(self._thing, verb)
        return lambda *args, **more: self._stopper.strike(
            verb, self.key, lambda: call(*args, **more)
        )

    def start_part(self, number, /, **more):
        writer = self._stopper.strike(
            "start_part", self.key, lambda: self._thing.start_part(number, **more)
        )
        return Stoppable(writer, self._stopper, self.key)

    def close(self):
        self._thing.close()

    def discard(self):
        self._thing.discard()
