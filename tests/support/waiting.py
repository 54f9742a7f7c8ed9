"""Waiting for a state, as long as a busy machine may take to reach it."""

import time

# A bound that only a fault reaches: six busy processes beside a test cost it a factor of ten.
LONG = 300.0


def wait_until(is_so, seconds: float = LONG):
    """The first true answer."""
    end_of_patience = time.monotonic() + seconds
    while time.monotonic() < end_of_patience:
        if found := is_so():
            return found
        time.sleep(0.05)
    raise AssertionError(f"not so after {seconds} s")


def end_of(thread):
    """Join a thread that must come to its end."""
    thread.join(LONG)
    assert not thread.is_alive()
