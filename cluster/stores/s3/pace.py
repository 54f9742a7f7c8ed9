"""How many requests a process has in flight: fewer when the store asks, more when it answers.

Additive increase, multiplicative decrease, as TCP does it: "slow down" halves the limit and holds
new requests back for a moment, every answer raises it by a share of one, so that a full round of
answers raises it by one.
"""

import contextlib
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace

# Long enough that one burst of refusals counts once, short beside botocore's back-off (0-20 s).
HOLD_SECONDS = 0.25
SLOW_DOWN_STATUSES = frozenset({429, 503})
SLOW_DOWN_CODES = frozenset({
    "SlowDown", "Throttling", "ThrottlingException", "RequestLimitExceeded", "TooManyRequests",
    "ServiceUnavailable",
})  # fmt: skip
SERVER_ERROR = 500


@dataclass(frozen=True, slots=True)
class Limit:
    """How many requests may be in flight.

    Attributes:
        most: largest value that `allowed` may reach.
        allowed: requests that may be in flight now; whole ones count, the fraction grows towards
            the next.
        held_until: clock reading, in seconds, before which no request starts and no answer changes
            the limit.
    """

    most: int
    allowed: float
    held_until: float = 0.0


def slowed(limit: Limit, now: float, /) -> Limit:
    """Half of it, one at least, after a moment's silence. Refusals in that moment count once."""
    if now < limit.held_until:
        return limit
    return replace(limit, allowed=max(1.0, limit.allowed / 2), held_until=now + HOLD_SECONDS)


def raised(limit: Limit, now: float, /) -> Limit:
    """A little more, `most` at most; not while held: those answers belong to earlier requests."""
    if now < limit.held_until:
        return limit
    return replace(limit, allowed=min(float(limit.most), limit.allowed + 1 / limit.allowed))


def judged(limit: Limit, now: float, /, *, status: int, code: str) -> Limit:
    """The limit after an answer.

    Args:
        limit: the limit before the answer.
        now: clock reading, in seconds.
        status: HTTP status of the answer.
        code: error code of the store; "" where the answer has none.
    """
    if status in SLOW_DOWN_STATUSES or code in SLOW_DOWN_CODES:
        return slowed(limit, now)
    return raised(limit, now) if status < SERVER_ERROR else limit


def wait_seconds(limit: Limit, in_flight: int, now: float, /) -> float | None:
    """How long the next request waits; 0 = it may start, None = until another one ends."""
    if now < limit.held_until:
        return limit.held_until - now
    return 0.0 if in_flight < int(limit.allowed) else None


class Pace:
    """The limit that all threads of a process share."""

    def __init__(self, most: int, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._limit = Limit(most, float(most))
        self._clock = clock
        self._in_flight = 0
        self._changed = threading.Condition()

    @property
    def limit(self) -> Limit:
        """The limit as it is now."""
        return self._limit

    @property
    def in_flight(self) -> int:
        """Requests that began and did not end."""
        return self._in_flight

    @contextlib.contextmanager
    def slot(self) -> Iterator[None]:
        """Wait for a place, keep it for one request (its body and its retries included)."""
        with self._changed:
            while (wait := wait_seconds(self._limit, self._in_flight, self._clock())) != 0:
                self._changed.wait(wait)
            self._in_flight += 1
        try:
            yield
        finally:
            with self._changed:
                self._in_flight -= 1
                self._changed.notify()

    def hear(self, *, status: int, code: str = "") -> None:
        """Take note of an answer, also of one that will be asked for again."""
        with self._changed:
            self._limit = judged(self._limit, self._clock(), status=status, code=code)
            self._changed.notify()
