import threading
import time

import pytest

from cluster.errors import RunnerError
from cluster.workers.patience import Patience
from cluster.workers.runner import Resources, SerialRunner
from cluster.workers.threads import ThreadRunner

RUNNERS = [SerialRunner(), ThreadRunner()]


def ids(runner):
    return type(runner).__name__


@pytest.mark.parametrize("runner", RUNNERS, ids=ids)
def test_every_item_comes_back_once(runner):
    done = list(runner.run_tasks(lambda x: x * x, range(5), resources=Resources(), workers=3))
    assert sorted((d.index, d.value) for d in done) == [(i, i * i) for i in range(5)]
    assert all(d.seconds >= 0 and d.worker for d in done)


@pytest.mark.parametrize("runner", RUNNERS, ids=ids)
def test_a_failing_item_does_not_stop_the_others(runner):
    done = list(runner.run_tasks(lambda x: 1 // x, [0, 1], resources=Resources(), workers=2))
    errors = {d.index: type(d.error) for d in done}
    assert errors == {0: ZeroDivisionError, 1: type(None)}


@pytest.mark.parametrize("runner", RUNNERS, ids=ids)
def test_a_pool_makes_each_worker_once(runner):
    made = []

    def make():
        made.append(threading.get_ident())
        return lambda item: item

    done = list(runner.run_pool(make, range(20), resources=Resources(), workers=2))
    assert len(done) == 20
    assert len(made) == len(set(made)) <= 2


@pytest.mark.parametrize("runner", RUNNERS, ids=ids)
def test_nothing_to_do_makes_no_worker(runner):
    def make():
        raise AssertionError

    assert list(runner.run_pool(make, [], resources=Resources(), workers=2)) == []


def test_threads_stop_handing_out_when_the_caller_stops():
    started = []

    def work(item):
        started.append(item)
        time.sleep(0.05)
        return item

    results = ThreadRunner().run_tasks(work, range(50), resources=Resources(), workers=2)
    next(results)
    results.close()
    assert len(started) < 50


def test_an_item_over_its_deadline_is_named_and_not_waited_for():
    gate = threading.Event()

    def work(item):
        if item == 3:
            gate.wait(300)
        return item

    runner = ThreadRunner(patience=Patience(longest=1.0, poll=0.05))
    try:
        done = list(runner.run_tasks(work, range(6), resources=Resources(), workers=2))
        assert not gate.is_set()
    finally:
        gate.set()
    assert sorted(d.index for d in done) == list(range(6))
    (late,) = [d for d in done if d.error is not None]
    assert late.index == 3
    assert "item 3 took longer than 1 s" in str(late.error)


@pytest.mark.parametrize("runner", RUNNERS, ids=ids)
def test_a_worker_that_cannot_be_made_ends_the_pool(runner):
    def make():
        raise RunnerError("this host computes otherwise")

    with pytest.raises(RunnerError, match="otherwise"):
        list(runner.run_pool(make, range(5), resources=Resources(), workers=2))
