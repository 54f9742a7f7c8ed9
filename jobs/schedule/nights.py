"""What a scheduler decides: the state of the nights, and how it moves on. No clock, no storage.

`advance` is a pure fold: (state, what is seen now) -> state. The scheduler that writes the new
state by compare-and-swap has decided; every other one decides again from the state it then finds.
So two schedulers, or one that comes back, start every logical date once.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import Literal

from jobs.exits import ENDED
from jobs.outputs.lease import Holder
from jobs.schedule.timetable import Tick, Timetable, next_tick, ticks

NightStatus = Literal[
    "running", "cancelling", "waiting", "done", "failed", "missed", "skipped", "cancelled"
]
Decided = Literal[
    "start", "retry", "done", "failed", "missed", "skip", "queue", "cancel", "cancelled",
    "take_over", "stopped", "changed",
]  # fmt: skip
# Done or promoted, nothing new, held, not decided: the night has its answer.
# Usage, recipe, safety, incompatible: the same again would end the same way.
FINAL = (2, 10, 11, 12)
MAX_TRIES = 5
FIRST_RETRY_SECONDS = 120.0
# A host that boots or an image that is pulled takes its time; a night that begins then is not late.
ON_TIME_SECONDS = 900.0
KEPT_NIGHTS = 60
KEPT_DECISIONS = 120


@dataclass(frozen=True, slots=True)
class Night:
    """One logical date.

    Attributes:
        date: logical date; together with the recipe's name it names the run.
        tick: time at which the night was due, seconds since 1970.
        status: state of the night; running and cancelling have a holder, waiting begins at
            `retry_at`.
        holder: scheduler that has claimed the night, with its heartbeat; None if no scheduler has.
        tries: number of times the night was started.
        retry_at: time from which a waiting night may start, seconds since 1970.
        exit_status: exit status of the last try; None if no try has ended.
        reason: reason of the status, for people.
    """

    date: str
    tick: float
    status: NightStatus
    holder: Holder | None = None
    tries: int = 0
    retry_at: float = 0.0
    exit_status: int | None = None
    reason: str = ""

    @property
    def is_claimed(self) -> bool:
        """A scheduler works on the night, or died doing so."""
        return self.status in ("running", "cancelling")

    @property
    def is_open(self) -> bool:
        """It has not come to its end."""
        return self.is_claimed or self.status == "waiting"


@dataclass(frozen=True, slots=True)
class LogLine:
    """One line of the log: numbered, with time in UTC and the scheduler that decided."""

    number: int
    at: str
    by: str
    decision: Decided
    date: str
    run: str
    reason: str


@dataclass(frozen=True, slots=True)
class State:
    """All that schedulers of one recipe know. Ticks up to `since` are settled and forgotten."""

    cron: str
    zone: str
    since: float
    nights: tuple[Night, ...] = ()
    log: tuple[LogLine, ...] = ()
    count: int = 0
    schema: int = 1


@dataclass(frozen=True, slots=True)
class Seen:
    """What one scheduler sees.

    Attributes:
        now: the scheduler's clock, seconds since 1970.
        me: what the scheduler writes as the holder of a night that it claims.
        alive: dates whose holders' heartbeats advanced while the scheduler watched.
        silent: dates whose holders are gone, or whose heartbeats stood still for long.
        ended: exit statuses of the scheduler's own children, by date.
        is_stopping: whether the scheduler has been told to stop: nothing starts, and interrupted
            nights are put back.
    """

    now: float
    me: Holder
    alive: frozenset[str] = frozenset()
    silent: frozenset[str] = frozenset()
    ended: Mapping[str, int] = field(default_factory=dict)
    is_stopping: bool = False


def begin_state(timetable: Timetable, since: float) -> State:
    """The state before the first night: what was due up to `since` is ignored."""
    return State(timetable.cron, timetable.zone, since)


def advance(state: State, seen: Seen, timetable: Timetable) -> State:
    """The state after everything that can be decided now. Deciding again changes nothing."""
    state = _follow_changes(state, seen, timetable)
    for night in state.nights:
        if night.date in seen.ended and _is_mine(night, seen):
            state = _end(state, night, seen, timetable)
    for night in state.nights:
        if night.is_claimed and night.date in seen.silent and not _is_mine(night, seen):
            state = _take_over(state, night, seen, timetable)
    if not seen.is_stopping:
        state = _expire(state, seen, timetable)
        if not any(_is_unknown(night, seen) for night in state.nights):
            state = _see_ticks(state, seen, timetable)
            state = _start(state, seen, timetable)
    return _forget(state)


def beat(state: State, me: Holder) -> State:
    """The state with the heartbeat of a scheduler in all nights that it holds."""
    return replace(
        state,
        nights=tuple(
            replace(night, holder=replace(night.holder, beat=night.holder.beat + 1))
            if night.holder is not None and night.holder.owner == me.owner
            else night
            for night in state.nights
        ),
    )


def next_wake(state: State, timetable: Timetable) -> float | None:
    """When something is due next, or since when, seconds since 1970; None if never."""
    tick = next_tick(timetable, _last_seen(state))
    moments = [night.retry_at for night in state.nights if night.status == "waiting"]
    return min([*moments, *([tick.at] if tick else [])], default=None)


def _last_seen(state: State) -> float:
    """Everything that was due up to this moment is in the state."""
    return max([state.since, *(night.tick for night in state.nights)])


def _follow_changes(state: State, seen: Seen, timetable: Timetable) -> State:
    if (state.cron, state.zone) == (timetable.cron, timetable.zone):
        return state
    reason = (
        f"schedule was {state.cron!r} in {state.zone}, is {timetable.cron!r} in {timetable.zone}"
    )
    state = replace(state, cron=timetable.cron, zone=timetable.zone, since=seen.now)
    return _log(state, seen, timetable, "changed", "", reason)


def _end(state: State, night: Night, seen: Seen, timetable: Timetable) -> State:
    """One of our own children has ended."""
    code = seen.ended[night.date]
    ended = replace(night, exit_status=code)
    if code in ENDED:
        return _settle(state, ended, "done", f"exit status {code}", seen, timetable)
    if night.status == "cancelling":
        return _settle(state, ended, "cancelled", night.reason, seen, timetable)
    if code in FINAL:
        reason = f"exit status {code}: trying again would not help"
        return _settle(state, ended, "failed", reason, seen, timetable)
    if seen.is_stopping:
        back = replace(ended, tries=max(night.tries - 1, 0))
        reason = "the scheduler was stopped; the next one goes on"
        back = replace(back, retry_at=seen.now, reason=reason)
        return _wait(state, back, "stopped", seen=seen, timetable=timetable)
    if night.tries >= MAX_TRIES:
        reason = f"exit status {code}, {night.tries} tries"
        return _settle(state, ended, "failed", reason, seen, timetable)
    retry_at = seen.now + FIRST_RETRY_SECONDS * 3 ** max(night.tries - 1, 0)
    if retry_at > night.tick + _window(timetable):
        reason = f"exit status {code}, and no time is left in catch_up for another try"
        return _settle(state, ended, "failed", reason, seen, timetable)
    reason = f"exit status {code}, next try at {_text(retry_at)}"
    ended = replace(ended, retry_at=retry_at, reason=reason)
    return _wait(state, ended, "retry", seen=seen, timetable=timetable)


def _take_over(state: State, night: Night, seen: Seen, timetable: Timetable) -> State:
    """The scheduler that held a night is dead: go on if it is not too late."""
    where = f"host {night.holder.host}" if night.holder else "nobody"
    if night.status == "cancelling":
        return _settle(state, night, "cancelled", night.reason, seen, timetable)
    if seen.now > _deadline(night, timetable):
        reason = f"the scheduler on {where} fell silent; too late to go on"
        return _settle(state, night, "failed", reason, seen, timetable)
    reason = f"the scheduler on {where} fell silent"
    night = replace(night, retry_at=seen.now, reason=reason)
    return _wait(state, night, "take_over", seen=seen, timetable=timetable)


def _expire(state: State, seen: Seen, timetable: Timetable) -> State:
    for night in state.nights:
        is_late = night.status == "waiting" and night.tries > 0
        if is_late and seen.now > _deadline(night, timetable):
            state = _settle(state, night, "failed", "too late to go on", seen, timetable)
    return state


def _see_ticks(state: State, seen: Seen, timetable: Timetable) -> State:
    """Record what has become due since: at most the last tick runs, others are missed."""
    known = {night.date for night in state.nights}
    after = _last_seen(state)
    first = next_tick(timetable, after)
    if first is None or first.at > seen.now:
        return state
    due = [t for t in ticks(timetable, after, seen.now) if t.date not in known]
    if not due:
        return state
    *older, last = due
    if len(older) > KEPT_NIGHTS // 2:
        left_out = len(older) - KEPT_NIGHTS // 2
        reason = f"{left_out} earlier nights, {older[0].date} to {older[left_out - 1].date}"
        state = _log(state, seen, timetable, "missed", older[left_out - 1].date, reason)
    for tick in older[-(KEPT_NIGHTS // 2) :]:
        reason = "no scheduler was there, and a later night is due"
        state = _settle(state, _night(tick), "missed", reason, seen, timetable)
    late = seen.now - last.at
    if late > _window(timetable):
        reason = f"{late / 3600:.1f} h late, catch_up is {timetable.catch_up_seconds / 3600:g} h"
        return _settle(state, _night(last), "missed", reason, seen, timetable)
    return _admit(state, last, seen, timetable)


def _admit(state: State, tick: Tick, seen: Seen, timetable: Timetable) -> State:
    """A night is due and in time: let it run, unless an earlier one still does."""
    running = next((night for night in state.nights if night.is_claimed), None)
    if running is not None and timetable.overlap == "skip":
        reason = f"{running.date} still runs"
        return _settle(state, _night(tick), "skipped", reason, seen, timetable)
    for night in state.nights:
        if night.status == "waiting":
            to: NightStatus = "failed" if night.tries else "skipped"
            reason = f"{tick.date} took its place"
            state = _settle(state, night, to, reason, seen, timetable)
    if running is None:
        return _put(state, replace(_night(tick), status="waiting", retry_at=seen.now))
    reason = f"after {running.date}, which still runs"
    if timetable.overlap == "cancel_older" and running.status != "cancelling":
        cancelled = replace(running, status="cancelling", reason=f"{tick.date} is due")
        state = _put(state, cancelled)
        state = _log(state, seen, timetable, "cancel", running.date, cancelled.reason)
    night = replace(_night(tick), retry_at=tick.at, reason=reason)
    return _wait(state, night, "queue", seen=seen, timetable=timetable)


def _start(state: State, seen: Seen, timetable: Timetable) -> State:
    if any(night.is_claimed for night in state.nights):
        return state
    ready = [n for n in state.nights if n.status == "waiting" and n.retry_at <= seen.now]
    if not ready:
        return state
    night = max(ready, key=lambda n: n.tick)
    late = seen.now - night.tick
    reason = "" if late <= ON_TIME_SECONDS else f"{late / 3600:.1f} h late"
    if night.tries:
        reason = f"try {night.tries + 1}" + (f", {reason}" if reason else "")
    begun = replace(night, status="running", holder=seen.me, tries=night.tries + 1, reason=reason)
    return _log(_put(state, begun), seen, timetable, "start", night.date, reason)


def _forget(state: State) -> State:
    """Keep the state small. Nights that are open stay."""
    settled = [night for night in state.nights if not night.is_open]
    gone = {night.date for night in settled[: max(len(settled) - KEPT_NIGHTS, 0)]}
    since = max([state.since, *(night.tick for night in state.nights if night.date in gone)])
    return replace(
        state,
        since=since,
        nights=tuple(night for night in state.nights if night.date not in gone),
        log=state.log[-KEPT_DECISIONS:],
    )


SETTLED_AS: Mapping[NightStatus, Decided] = {
    "done": "done", "failed": "failed", "missed": "missed", "skipped": "skip",
    "cancelled": "cancelled",
}  # fmt: skip


def _settle(
    state: State, night: Night, status: NightStatus, reason: str, seen: Seen, timetable: Timetable
) -> State:
    state = _put(state, replace(night, status=status, holder=None, reason=reason))
    return _log(state, seen, timetable, SETTLED_AS[status], night.date, reason)


def _wait(state: State, night: Night, kind: Decided, *, seen: Seen, timetable: Timetable) -> State:
    """The night waits until its `retry_at`, for its `reason`."""
    waiting = replace(night, status="waiting", holder=None)
    return _log(_put(state, waiting), seen, timetable, kind, night.date, night.reason)


def _put(state: State, night: Night) -> State:
    others = [other for other in state.nights if other.date != night.date]
    return replace(state, nights=tuple(sorted([*others, night], key=lambda n: n.tick)))


def _log(
    state: State, seen: Seen, timetable: Timetable, kind: Decided, date: str, reason: str
) -> State:
    number = state.count + 1
    run = f"{timetable.name}-{date}" if date else ""
    line = LogLine(number, _text(seen.now), seen.me.owner, kind, date, run, reason)
    return replace(state, log=(*state.log, line), count=number)


def _night(tick: Tick) -> Night:
    return Night(tick.date, tick.at, "missed")


def _window(timetable: Timetable) -> float:
    return max(timetable.catch_up_seconds, ON_TIME_SECONDS)


def _deadline(night: Night, timetable: Timetable) -> float:
    """Until when a night that was begun is gone on with: catch_up, or the next night's tick."""
    following = next_tick(timetable, night.tick)
    return max(night.tick + _window(timetable), following.at if following else 0.0)


def _is_mine(night: Night, seen: Seen) -> bool:
    return night.holder is not None and night.holder.owner == seen.me.owner


def _is_unknown(night: Night, seen: Seen) -> bool:
    """Whether it is still unknown if the holder is alive: it would be wrong to skip."""
    return night.is_claimed and not _is_mine(night, seen) and night.date not in seen.alive


def _text(moment: float) -> str:
    return datetime.fromtimestamp(moment, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
