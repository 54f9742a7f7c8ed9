"""The scheduler: claims nights in a shared state, runs each as a child, and tells how it ended."""

import os
import socket
import threading
import time
import uuid
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from typing import Protocol

from cluster.errors import ClusterError, NotFoundError, PreconditionError
from cluster.stores.settled import Settled, read_settled
from cluster.stores.store import Store
from fusion.canonical import to_json
from jobs.exits import INTERRUPTED, LOCKED
from jobs.outputs.lease import Holder, is_gone, process_birth
from jobs.outputs.stored import parse_stored, read_stored
from jobs.schedule.nights import LogLine, Night, Seen, State, advance, beat, begin_state, next_wake
from jobs.schedule.timetable import Timetable

BEAT_SECONDS = 15.0
SILENT_SECONDS = 60.0
# Nothing is due and no scheduler works: look again all the same, as another one may have died.
IDLE_SECONDS = 7200.0
STORE_AWAY_SECONDS = 10.0
STOP_SECONDS = 30.0


class Child(Protocol):
    """A night at work."""

    def poll(self) -> int | None:
        """Its exit status; None while it runs."""

    def stop(self, *, is_cancelled: bool) -> None:
        """Ask it to end. `is_cancelled`: no scheduler will go on with the night."""

    def kill(self) -> None:
        """End it."""


@dataclass
class Watched:
    """Another scheduler's heartbeat as it looks from here, by our own clock."""

    beat: int
    since: float
    is_alive: bool = False


def this_process() -> Holder:
    """A claim of this process; every scheduler that starts is another owner."""
    pid = os.getpid()
    return Holder(uuid.uuid4().hex, "", socket.gethostname(), pid, process_birth(pid))


@dataclass(frozen=True, slots=True)
class StateFile:
    """Where the schedule's state is kept."""

    store: Store
    key: str


class Scheduler:
    """One scheduler of a recipe. `step` does all that can be done now."""

    def __init__(
        self,
        kept: StateFile,
        timetable: Timetable,
        *,
        begin: Callable[[Night], Child],
        say: Callable[[LogLine], None],
        me: Holder,
        look_back_seconds: float = 0.0,
    ) -> None:
        """Make a scheduler; it asks nothing of the store yet.

        Args:
            kept: place of the schedule's state.
            timetable: timetable that says when nights are due.
            begin: starts a night and returns its process.
            say: called once with every decision of this scheduler.
            me: what this scheduler's claims carry as the holder.
            look_back_seconds: seconds that the very first scheduler looks back for a night that is
                due.
        """
        self._store, self._key = kept.store, kept.key
        self._timetable = timetable
        self._begin = begin
        self._say = say
        self._me = me
        self._look_back = look_back_seconds
        self._children: dict[str, Child] = {}
        self._ended: dict[str, int] = {}
        self._watched: dict[tuple[str, str], Watched] = {}
        self._next_beat = 0.0
        self._said = -1
        self._last: LogLine | None = None
        self._read_last: Settled | None = None
        self.state: State | None = None

    def step(self, now: float, monotonic: float) -> None:
        """Decide, write it down, start and end children accordingly.

        Raises:
            ClusterError: the store does not answer; children go on, call again.
        """
        self._reap()
        is_beat = monotonic >= self._next_beat
        state = self._commit(now, monotonic, is_beat=is_beat, is_stopping=False)
        if is_beat:
            self._next_beat = monotonic + BEAT_SECONDS
        self._follow(state)

    def stop(self, now: float, monotonic: float, *, patience: float = STOP_SECONDS) -> None:
        """End the children and put their nights back, for the next scheduler to go on with.

        Raises:
            ClusterError: the store does not answer; another scheduler takes over all the same.
        """
        for child in self._children.values():
            child.stop(is_cancelled=False)
        limit = time.monotonic() + patience
        while any(child.poll() is None for child in self._children.values()):
            if time.monotonic() > limit:
                for child in self._children.values():
                    child.kill()
            time.sleep(0.05)
        self._reap()
        self._commit(now, monotonic, is_beat=False, is_stopping=True)

    @property
    def has_news(self) -> bool:
        """Whether a child has ended since the last step."""
        return any(child.poll() is not None for child in self._children.values())

    @property
    def is_idle(self) -> bool:
        """Nothing runs here, nothing waits, and no dead claim is left to be found out."""
        if self.state is None or self._children or self._ended:
            return False
        return not any(
            night.status == "waiting" or (night.is_claimed and not self._is_alive(night))
            for night in self.state.nights
        )

    @property
    def exit_status(self) -> int:
        """Of the last night that this scheduler settled; 0 if there was none, 30 if skipped."""
        if self.state is None or self._last is None or self._last.decision == "missed":
            return 0
        if self._last.decision == "skip":
            return LOCKED
        code = next((n.exit_status for n in self.state.nights if n.date == self._last.date), None)
        return INTERRUPTED if code is None else code

    def wake_seconds(self, now: float) -> float:
        """Seconds until something is to be done, unless a child ends before."""
        state = self.state
        if state is None:
            return STORE_AWAY_SECONDS
        at = next_wake(state, self._timetable)
        is_claimed = any(night.is_claimed for night in state.nights)
        wait = IDLE_SECONDS if at is None else min(at - now, IDLE_SECONDS)
        if is_claimed:
            # What is due already waits for the night that runs.
            return min(wait, BEAT_SECONDS) if wait > 0 else BEAT_SECONDS
        return max(wait, 0.05)

    def _reap(self) -> None:
        for date, child in list(self._children.items()):
            code = child.poll()
            if code is not None:
                self._ended[date] = code if code >= 0 else 128 - code
                del self._children[date]

    def _commit(self, now: float, monotonic: float, *, is_beat: bool, is_stopping: bool) -> State:
        while True:
            state, etag = self._read(now)
            if self._said < 0:
                self._said = state.count
            seen = self._look(state, now, monotonic, is_stopping=is_stopping)
            decided = advance(state, seen, self._timetable)
            decided = beat(decided, self._me) if is_beat else decided
            if decided != state or etag is None:
                content = to_json(decided)
                try:
                    written = self._store.put(
                        self._key, content, if_match=etag, if_absent=etag is None
                    )
                    self._read_last = Settled(content, written.etag)
                except PreconditionError:
                    continue  # another scheduler decided meanwhile, or it was us: look again
            self._ended.clear()
            self.state = decided
            self._tell(decided)
            return decided

    def _read(self, now: float) -> tuple[State, str | None]:
        """The state and the etag of exactly that content; None where there is none yet."""
        self._read_last = read_settled(self._store, self._key, known=self._read_last)
        if self._read_last is None:
            return begin_state(self._timetable, now - self._look_back), None
        return (
            parse_stored(State, self._read_last.content, store=self._store, key=self._key),
            self._read_last.etag,
        )

    def _look(self, state: State, now: float, monotonic: float, *, is_stopping: bool) -> Seen:
        alive, silent = set(), set()
        watched = {}
        for night in state.nights:
            holder = night.holder
            if holder is None or holder.owner == self._me.owner:
                continue
            seen = self._watched.get((night.date, holder.owner))
            if seen is None:
                seen = Watched(holder.beat, monotonic)
            elif seen.beat != holder.beat:
                seen = Watched(holder.beat, monotonic, is_alive=True)
            watched[night.date, holder.owner] = seen
            if is_gone(holder) or monotonic - seen.since >= SILENT_SECONDS:
                silent.add(night.date)
            elif seen.is_alive:
                alive.add(night.date)
        self._watched = watched
        return Seen(
            now, self._me, frozenset(alive), frozenset(silent), dict(self._ended), is_stopping
        )

    def _is_alive(self, night: Night) -> bool:
        owner = night.holder.owner if night.holder else ""
        seen = self._watched.get((night.date, owner))
        return seen is not None and seen.is_alive

    def _follow(self, state: State) -> None:
        """Start and stop children until they are as the state says."""
        mine = {
            night.date: night
            for night in state.nights
            if night.holder is not None and night.holder.owner == self._me.owner
        }
        for date in self._children.keys() - mine.keys():
            self._children.pop(date).stop(is_cancelled=False)  # taken over while we were silent
        for date, night in mine.items():
            child = self._children.get(date)
            if night.status == "cancelling":
                if child is None:
                    self._ended[date] = INTERRUPTED
                else:
                    child.stop(is_cancelled=True)
            elif child is None:
                self._children[date] = self._begin(night)

    def _tell(self, state: State) -> None:
        for line in state.log:
            if line.number > self._said and line.by == self._me.owner:
                self._say(line)
                if line.decision in ("done", "failed", "cancelled", "skip", "missed"):
                    self._last = line
        self._said = max(self._said, state.count)


def run_scheduler(
    scheduler: Scheduler,
    stopped: threading.Event,
    *,
    is_once: bool,
    warn: Callable[[str], None],
    clock: Callable[[], float] = time.time,
) -> int:
    """Keep a scheduler going until it is stopped, or with `is_once` until nothing is due.

    Returns:
        130 if it was stopped, else the exit status of the last night.
    """
    while not stopped.is_set():
        wait = STORE_AWAY_SECONDS
        try:
            scheduler.step(clock(), time.monotonic())
        except ClusterError as error:
            warn(f"{error}; trying again")
        else:
            if is_once and scheduler.is_idle:
                return scheduler.exit_status
            wait = scheduler.wake_seconds(clock())
        _sleep(scheduler, stopped, wait, clock)
    try:
        scheduler.stop(clock(), time.monotonic())
    except ClusterError as error:
        warn(f"{error}; the next scheduler takes over once this one has been silent")
    return INTERRUPTED


def _sleep(
    scheduler: Scheduler, stopped: threading.Event, seconds: float, clock: Callable[[], float]
) -> None:
    """Wait by both clocks: one that is set, or a host that slept, is noticed within a second."""
    until, limit = clock() + seconds, time.monotonic() + seconds
    while not stopped.is_set() and not scheduler.has_news:
        left = min(until - clock(), limit - time.monotonic())
        if left <= 0:
            return
        stopped.wait(min(1.0, left))


def read_state(store: Store, key: str) -> State | None:
    """What the schedulers of a recipe have written; None if there never was one."""
    with suppress(NotFoundError):
        return read_stored(State, store, key)
    return None
