"""Waiting for a store that is down for a while: a server that restarts, a network that is back."""

import time
from collections.abc import Callable, Mapping
from typing import Any

from cluster.stores.s3.checks import Learned
from cluster.stores.s3.errors import AWAY

PAUSE_SECONDS = 2.0
SINCE = "metafuse_outage_since"


def make_waiter(
    learned: Learned, seconds: float, *, clock: Callable[[], float] = time.monotonic
) -> Callable[..., float | None]:
    """A handler of botocore's `needs-retry`: the pause before one more try, or None.

    Asked last, so that botocore's own retries come first. Only a store that has answered this
    process is waited for: a wrong endpoint is told at once.

    Args:
        learned: what the process knows about the endpoint.
        seconds: longest outage that is waited for, from the first failure of a request.
        clock: monotonic clock, in seconds.
    """
    pause = min(PAUSE_SECONDS, seconds / 10)

    def wait(
        request_dict: Mapping[str, Any],
        response: tuple[Any, Mapping[str, Any]] | None = None,
        caught_exception: Exception | None = None,
        **_: object,
    ) -> float | None:
        if not is_away(response, caught_exception):
            learned.has_answered |= response is not None
            return None
        if not learned.has_answered:
            return None
        since = request_dict["context"].setdefault(SINCE, clock())
        return pause if clock() - since < seconds else None

    return wait


def is_away(
    response: tuple[Any, Mapping[str, Any]] | None, caught_exception: Exception | None
) -> bool:
    """Whether no server answered, or one that says that it cannot at the moment."""
    if response is None:
        return type(caught_exception).__name__ in AWAY
    answer = response[1]
    code = str(answer.get("Error", {}).get("Code", ""))
    return code in AWAY or str(answer["ResponseMetadata"]["HTTPStatusCode"]) in AWAY
