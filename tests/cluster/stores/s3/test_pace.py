"""The limit of requests in flight, on a clock that stands still unless it is moved."""

import threading
import time

import pytest

from cluster.stores.s3.pace import HOLD_SECONDS, Limit, Pace, judged, raised, slowed, wait_seconds


class Clock:
    def __init__(self):
        self.now = 100.0

    def __call__(self):
        return self.now


def test_slow_down_halves_the_limit_and_holds_new_requests_back():
    limit = slowed(Limit(32, 32.0), 100.0)
    assert limit == Limit(32, 16.0, 100.0 + HOLD_SECONDS)
    assert wait_seconds(limit, 0, 100.0) == HOLD_SECONDS
    assert wait_seconds(limit, 0, 100.0 + HOLD_SECONDS) == 0


def test_a_burst_of_refusals_counts_once():
    limit = Limit(32, 32.0)
    for late in (0.0, 0.1, 0.2):
        limit = slowed(limit, 100.0 + late)
    assert limit.allowed == 16
    assert slowed(limit, 100.0 + HOLD_SECONDS).allowed == 8


def test_one_request_is_always_allowed():
    limit = Limit(4, 4.0)
    for burst in range(10):
        limit = slowed(limit, 100.0 + burst)
    assert limit.allowed == 1
    assert wait_seconds(limit, 0, 200.0) == 0


def test_a_round_of_answers_raises_the_limit_by_one_and_never_beyond_the_most():
    limit = Limit(8, 4.0)
    for _ in range(4):
        limit = raised(limit, 100.0)
    assert 4.8 < limit.allowed <= 5
    for _ in range(100):
        limit = raised(limit, 100.0)
    assert limit.allowed == 8


def test_answers_to_earlier_requests_do_not_raise_a_limit_that_is_held():
    held = slowed(Limit(8, 8.0), 100.0)
    assert raised(held, 100.1) == held


@pytest.mark.parametrize(
    ("status", "code", "allowed"),
    [
        (503, "SlowDown", 4.0),
        (429, "", 4.0),
        (503, "", 4.0),
        (200, "SlowDown", 4.0),
        (500, "InternalError", 8.0),
        (200, "", 8.125),
        (412, "PreconditionFailed", 8.125),
    ],
)
def test_what_an_answer_does_to_the_limit(status, code, allowed):
    assert judged(Limit(16, 8.0), 100.0, status=status, code=code).allowed == allowed


def test_a_full_house_waits_for_somebody_to_leave():
    assert wait_seconds(Limit(8, 2.9), 2, 100.0) is None
    assert wait_seconds(Limit(8, 2.9), 1, 100.0) == 0


def test_a_slot_is_given_back_also_after_an_error():
    pace = Pace(1, clock=Clock())

    def break_off():
        with pace.slot():
            raise ValueError(f"{pace.in_flight} in flight")

    for _ in range(3):
        with pytest.raises(ValueError, match="1 in flight"):
            break_off()
    assert pace.in_flight == 0


def test_never_more_threads_inside_than_the_limit_allows():
    clock = Clock()
    pace = Pace(8, clock=clock)
    pace.hear(status=503)
    clock.now += 1.0
    pace.hear(status=503)
    clock.now += 1.0
    most, lock = [0], threading.Lock()

    def work():
        for _ in range(20):
            with pace.slot(), lock:
                most[0] = max(most[0], pace.in_flight)

    threads = [threading.Thread(target=work) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert 1 <= most[0] <= 2
    assert pace.limit == Limit(8, 2.0, 101.0 + HOLD_SECONDS)


def test_a_thread_that_waits_goes_on_once_the_hold_is_over():
    pace = Pace(1)
    pace.hear(status=429)
    begun = pace.limit.held_until
    with pace.slot():
        assert time.monotonic() >= begun
