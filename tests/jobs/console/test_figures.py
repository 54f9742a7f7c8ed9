"""Rates and time left are a fold over what was said, by a clock that is passed in."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from jobs.console.figures import Figures, describe_course, go_on


def paced(entries, step="merge", total=10, total_bytes=10_000_000_000):
    """The pace after entries of (clock, units done, bytes done, worker)."""
    pace = None
    for now, done, num_bytes, worker in entries:
        figures = Figures(num_bytes, total_bytes, unit=f"u{done}", seconds=now / 10, worker=worker)
        pace = go_on(pace, step, done=done, total=total, figures=figures, now=now)
    return pace


def test_now_is_the_last_half_minute_and_mean_is_all_of_it():
    slow = [(float(t), 1, 10_000_000 * t, "h1/1") for t in range(0, 101, 5)]
    fast = [(100.0 + t, 2, 1_000_000_000 + 100_000_000 * t, "h2/2") for t in range(5, 31, 5)]
    pace = paced(slow + fast)
    assert pace.rate_now == 100_000_000
    assert pace.rate_mean == pytest.approx(4_000_000_000 / 130)
    assert pace.seconds_left == pytest.approx(6_000_000_000 / (4_000_000_000 / 130))


def test_what_an_earlier_driver_did_is_in_no_rate():
    pace = paced([(0.0, 8, 8_000_000_000, ""), (10.0, 9, 9_000_000_000, "h/1")])
    assert pace.rate_mean == 100_000_000
    assert pace.seconds_left == 10


def test_time_left_is_of_units_where_bytes_are_not_known():
    pace = go_on(None, "train", done=0, total=6, figures=Figures(), now=0.0)
    pace = go_on(pace, "train", done=2, total=6, figures=Figures(), now=10.0)
    assert (pace.seconds_left, describe_course(pace)) == (20, "20s left")


def test_the_first_small_file_says_nothing_of_the_time_left():
    assert paced([(0.0, 0, 0, ""), (5.0, 1, 610, "")]).seconds_left is None
    assert paced([(0.0, 0, 0, ""), (0.5, 1, 9_000_000_000, "")]).seconds_left is None


def test_a_worker_that_finished_nothing_for_a_while_is_not_at_work():
    pace = paced([(0.0, 1, 1, "h1/1"), (50.0, 2, 2, "h1/2"), (100.0, 3, 3, "h2/3")])
    assert pace.workers == ("h1/2", "h2/3")
    assert (pace.slowest.unit, pace.slowest.host) == ("u3", "h2")


def test_one_line_tells_all_of_it():
    pace = paced([(0.0, 0, 0, ""), (10.0, 5, 5_000_000_000, "h/1")])
    assert describe_course(pace) == (
        "5.00 GB of 10.00 GB, 0.500 GB/s now, 0.500 mean, 10s left, 1 worker"
    )


def test_examples_are_counted_where_they_are_known():
    pace = None
    for now, done in ((0.0, 0), (10.0, 1), (20.0, 2)):
        figures = Figures(num_examples=60 * done, total_examples=6000)
        pace = go_on(pace, "evaluate", done=done, total=100, figures=figures, now=now)
    assert describe_course(pace) == (
        "120 of 6,000 examples, 6.0 examples/s now, 6.0 mean, 16m20s left"
    )


def test_another_step_and_one_that_begins_again_start_afresh():
    pace = paced([(0.0, 0, 0, ""), (10.0, 5, 500, "h/1")])
    assert go_on(pace, "verify", done=5, total=10, figures=Figures(), now=11.0).rate_mean is None
    assert go_on(pace, "merge", done=2, total=10, figures=Figures(), now=11.0).rate_mean is None


@given(st.lists(st.tuples(st.floats(0, 2), st.integers(0, 10**9)), min_size=1, max_size=300))
def test_memory_does_not_grow_with_calls_and_rates_are_never_negative(steps):
    pace, now, num_bytes = None, 0.0, 0
    for number, (seconds, size) in enumerate(steps):
        now, num_bytes = now + seconds, num_bytes + size
        figures = Figures(num_bytes, 10**12)
        pace = go_on(pace, "merge", done=number, total=1000, figures=figures, now=now)
    assert len(pace.samples) <= 34
    assert all(rate is None or rate >= 0 for rate in (pace.rate_now, pace.rate_mean))
