import threading

import pytest

from cluster.workers.runner import Resources, SerialRunner, ThreadRunner

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
    gate = threading.Event()

    def work(item):
        started.append(item)
        gate.wait(5)
        return item

    results = ThreadRunner().run_tasks(work, range(50), resources=Resources(), workers=2)
    gate.set()
    next(results)
    results.close()
    assert len(started) < 50
