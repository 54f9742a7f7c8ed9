"""One driver at a time: a lease in the output folder, kept alive by a heartbeat.

The lease saves work; it does not guard the result. That is done by compare-and-swap on the
pointer, so a driver that lost its lease without noticing can do no harm.
"""

import json
import os
import socket
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path

from cluster.errors import ClusterError, PreconditionError
from cluster.stores.settled import read_settled
from cluster.stores.store import Store
from cluster.workers.patience import PATIENCE, Patience
from fusion.canonical import from_json
from fusion.errors import ManifestError
from jobs.errors import LockedError
from jobs.outputs.keys import LEASE_KEY


@dataclass(frozen=True, slots=True)
class Holder:
    """Who holds the lease. `beat` grows while the holder lives; `released` ends it early.

    `epoch` counts the drivers that held it, one after the other.
    """

    owner: str
    run: str
    host: str
    pid: int
    born: str
    beat: int = 0
    released: bool = False
    epoch: int = 1


class Lease:
    """A lease that is held: renewed by a thread until `release`."""

    def __init__(
        self, store: Store, holder: Holder, etag: str, *, patience: Patience = PATIENCE
    ) -> None:
        self._store = store
        self._holder = holder
        self._etag = etag
        self._patience = patience
        self._lost = threading.Event()
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._beat, name="lease", daemon=True)
        self._thread.start()

    @property
    def owner(self) -> str:
        """Id of this driver."""
        return self._holder.owner

    @property
    def is_lost(self) -> bool:
        """Whether the last heartbeat found another driver."""
        return self._lost.is_set()

    def check(self) -> None:
        """Raise if another driver has taken over.

        Raises:
            LockedError: the lease is no longer ours.
        """
        if self._lost.is_set():
            raise LockedError(
                f"the lease of {self._store.uri} was taken over by another driver while this one "
                "was silent; nothing more is written",
                "metafuse resolve shows what is promoted; run again to see how the other run ended",
            )

    def confirm(self) -> None:
        """Ask the store whether the lease is still ours, and raise as `check` if it is not.

        `check` knows what the last heartbeat found; a process that slept for hours finds out here.
        """
        current = self._read()
        if current is None or current[0].owner != self._holder.owner:
            self._lost.set()
        self.check()

    def release(self) -> None:
        """Stop the heartbeat and let the next driver in at once. Safe to repeat."""
        if self._stopped.is_set():
            return
        self._stopped.set()
        self._thread.join()
        if not self._lost.is_set():
            self._renew(released=True)

    def _beat(self) -> None:
        while not self._stopped.wait(self._patience.lease_beat) and not self._lost.is_set():
            self._renew(released=False)

    def _renew(self, *, released: bool) -> None:
        holder = replace(self._holder, beat=self._holder.beat + 1, released=released)
        try:
            self._etag = self._store.put(LEASE_KEY, _format(holder), if_match=self._etag).etag
            self._holder = holder
        except PreconditionError:
            current = self._read()
            if current is not None and current[0].owner == holder.owner:
                # The answer to an earlier renewal was lost after it had taken effect.
                self._holder, self._etag = current
            else:
                self._lost.set()
        except ClusterError:
            return  # a store that is away for a moment: the next beat tries again

    def _read(self) -> tuple[Holder, str] | None:
        """The lease as it stands; None where it is gone, or what stands there is none."""
        try:
            return read_lease(self._store)
        except ManifestError:
            return None


@contextmanager
def held_lease(
    store: Store,
    run: str,
    *,
    patience: Patience = PATIENCE,
    sleep: Callable[[float], None] = time.sleep,
    clock: Callable[[], float] = time.monotonic,
) -> Iterator[Lease]:
    """Hold the lease of an output while the block runs.

    Raises:
        LockedError: another driver is alive, which was seen by its heartbeat.
    """
    holder = Holder(
        uuid.uuid4().hex, run, socket.gethostname(), os.getpid(), process_birth(os.getpid())
    )
    found = _acquire(store, holder, patience=patience, sleep=sleep, clock=clock)
    lease = Lease(store, *found, patience=patience)
    try:
        yield lease
    finally:
        lease.release()


def _acquire(
    store: Store,
    holder: Holder,
    *,
    patience: Patience,
    sleep: Callable[[float], None],
    clock: Callable[[], float],
) -> tuple[Holder, str]:
    """Wait for the lease; returns the holder as written, and its etag.

    Only this process's own clock counts, and only how long it saw the same heartbeat: what other
    hosts take for the time of day does not matter. A watcher that slept itself sees the heartbeat
    changed and does not take a live lease for a silent one.
    """
    seen: Holder | None = None
    since = clock()
    while True:
        current = read_lease(store)
        try:
            if current is None:
                return holder, store.put(LEASE_KEY, _format(holder), if_absent=True).etag
            other, etag = current
            if other.owner == holder.owner:
                return other, etag  # an answer to our own put was lost
            is_silent = other == seen and clock() - since >= patience.lease_silent
            if other.released or is_silent or is_gone(other):
                taken = replace(holder, epoch=other.epoch + 1)
                return taken, store.put(LEASE_KEY, _format(taken), if_match=etag).etag
        except PreconditionError:
            seen = None
            continue
        if seen is not None and other != seen:
            raise LockedError(
                f"run {other.run} is alive on host {other.host} (process {other.pid}): its "
                f"heartbeat in {store.uri}/{LEASE_KEY} advanced while we watched; nothing was done",
                "wait for it to end, or stop that process; the same command then continues",
            )
        if seen is None:
            seen, since = other, clock()
        sleep(patience.lease_poll)


def read_lease(store: Store) -> tuple[Holder, str] | None:
    """The holder and the etag of exactly that content; None where there never was a lease.

    Raises:
        ManifestError: what stands there is no lease.
    """
    found = read_settled(store, LEASE_KEY)
    if found is None:
        return None
    try:
        return _parse(found.content), found.etag
    except ManifestError as error:
        place = f"{store.uri}/{LEASE_KEY}"
        raise ManifestError(
            f"{place} is damaged: {error}; nothing was done",
            f"make sure that no driver works on {store.uri}, remove {LEASE_KEY} there, and run the "
            "same command again; nothing else is lost with it",
        ) from None


def _parse(content: bytes) -> Holder:
    """The holder, without what newer releases tell of it."""
    try:
        raw = json.loads(content)
    except (ValueError, RecursionError) as error:
        raise ManifestError(f"not JSON: {error}") from None
    if isinstance(raw, dict):
        known = {field.name for field in fields(Holder)}
        raw = {name: value for name, value in raw.items() if name in known}
    return from_json(Holder, json.dumps(raw).encode())


def _format(holder: Holder) -> bytes:
    return json.dumps(asdict(holder), sort_keys=True).encode() + b"\n"


def is_gone(holder: Holder) -> bool:
    """True if the holder ran where this process can see it, and is not there any more.

    Hosts and containers of one name, or a host that was started anew, do not count: process ids of
    elsewhere say nothing here.
    """
    if holder.host != socket.gethostname():
        return False
    if holder.born.partition("@")[2] != process_birth(os.getpid()).partition("@")[2]:
        return False
    return process_birth(holder.pid) != holder.born


def process_birth(pid: int) -> str:
    """What tells a process from a later one with the same id; "" if there is none.

    Linux: the start time in clock ticks since boot, "@", the boot's id and that of the namespace in
    which process ids count. Elsewhere: only whether the process exists.
    """
    stat = Path(f"/proc/{pid}/stat")
    if Path("/proc/self/stat").exists():
        try:
            ticks = stat.read_text().rpartition(")")[2].split()[19]
        except (FileNotFoundError, ProcessLookupError):
            return ""
        boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
        return f"{ticks}@{boot}/{Path('/proc/self/ns/pid').readlink()}"
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return ""
    except PermissionError:
        return "alive"
    return "alive"
