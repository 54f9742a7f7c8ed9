"""Work on a store that is away for a while is begun again, for about a minute."""

import contextlib
import time
from collections.abc import Callable
from typing import TypeVar

from cluster.errors import AwayError

Result = TypeVar("Result")
TRIES = 20
LONGEST_SECONDS = 60.0


def waited_out(
    work: Callable[[], Result],
    pause: float,
    *,
    sleep: Callable[[float], None] = time.sleep,
    clock: Callable[[], float] = time.monotonic,
) -> Result:
    """The result of work that may be done again, once its store is back.

    Args:
        work: what to do.
        pause: seconds between two tries.
        sleep: how to pause.
        clock: monotonic clock, in seconds.

    Raises:
        AwayError: the store is still away after a minute, or 20 pauses.
    """
    began = clock()
    for _ in range(TRIES):
        with contextlib.suppress(AwayError):
            return work()
        if clock() - began > LONGEST_SECONDS:
            break
        sleep(pause)
    return work()
