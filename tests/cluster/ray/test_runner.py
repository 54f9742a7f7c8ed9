import os
import signal
import subprocess
import sys
import threading
import time
from contextlib import closing
from pathlib import Path

import pytest
import ray

from cluster.errors import AwayError, RunnerError
from cluster.ray.address import check_reachable
from cluster.ray.runner import RayRunner
from cluster.workers.patience import Patience
from cluster.workers.runner import Resources
from fusion.errors import MismatchError, NonFiniteError
from jobs.errors import LockedError, SourceChangedError
from tests.support.waiting import LONG, wait_until

pytestmark = [pytest.mark.ray, pytest.mark.xdist_group("ray")]


@pytest.fixture(scope="module")
def runner():
    ray_runner = RayRunner()
    yield ray_runner
    ray_runner.close()


def test_tasks_come_back_with_their_index(runner):
    done = list(runner.run_tasks(lambda x: x * x, [1, 2, 3], resources=Resources(), workers=2))
    assert sorted((d.index, d.value) for d in done) == [(0, 1), (1, 4), (2, 9)]


def test_a_pool_makes_each_worker_once(runner):
    def make():
        calls = []

        def work(item):
            calls.append(item)
            return (os.getpid(), len(calls))

        return work

    done = list(runner.run_pool(make, list(range(6)), resources=Resources(), workers=2))
    processes = {d.value[0] for d in done}
    assert len(done) == 6
    assert len(processes) <= 2
    assert sum(max(d.value[1] for d in done if d.value[0] == p) for p in processes) == 6


@pytest.mark.parametrize("verb", ["run_tasks", "run_pool"])
def test_typed_errors_arrive_as_they_were_raised(runner, verb):
    def fail(item):
        if item:
            raise NonFiniteError("bad", "hint", "seed-1", "dense.weight")
        raise MismatchError("odd", "drop it", "E-SHAPE")

    call = getattr(runner, verb)
    work = fail if verb == "run_tasks" else (lambda: fail)
    done = {d.index: d.error for d in call(work, [0, 1], resources=Resources(), workers=2)}
    assert (done[0].code, done[0].hint) == ("E-SHAPE", "drop it")
    assert (done[1].checkpoint, done[1].tensor) == ("seed-1", "dense.weight")


@pytest.mark.parametrize("verb", ["run_tasks", "run_pool"])
def test_work_of_a_killed_process_is_done_again(runner, verb, tmp_path):
    def die_once(folder):
        marker = Path(folder) / "died"
        if not marker.exists():
            marker.touch()
            os.kill(os.getpid(), signal.SIGKILL)
        return "done"

    call = getattr(runner, verb)
    work = die_once if verb == "run_tasks" else (lambda: die_once)
    (done,) = call(work, [str(tmp_path)], resources=Resources(), workers=1)
    assert done.value == "done"


def test_a_task_that_fails_is_not_done_again(runner, tmp_path):
    def fail(folder):
        Path(folder, str(time.monotonic_ns())).touch()
        raise MismatchError("odd", "drop it", "E-SHAPE")

    (done,) = runner.run_tasks(fail, [str(tmp_path)], resources=Resources(), workers=1)
    assert isinstance(done.error, MismatchError)
    assert len(list(tmp_path.iterdir())) == 1


def test_a_unit_that_kills_every_worker_is_named(runner):
    def die(item):
        os.kill(os.getpid(), signal.SIGKILL)

    (done,) = runner.run_pool(lambda: die, ["poison"], resources=Resources(), workers=1)
    assert isinstance(done.error, RunnerError)
    assert "item 0 lost 4 workers" in str(done.error)


def test_a_task_over_its_limit_is_stopped(runner):
    (done,) = runner.run_tasks(time.sleep, [60], resources=Resources(limit_seconds=1.0), workers=1)
    assert isinstance(done.error, RunnerError)
    assert "limit of 1 s" in str(done.error)


def test_what_no_node_has_is_refused_before_dispatch(runner):
    with pytest.raises(RunnerError, match="no node of the cluster"):
        list(runner.run_tasks(abs, [1], resources=Resources(num_cpus=4096), workers=1))


def test_more_workers_than_cpus_do_not_hang(runner):
    made = runner.run_pool(
        lambda: lambda item: item, list(range(20)), resources=Resources(), workers=16
    )
    assert sorted(d.value for d in made) == list(range(20))


def test_a_pool_with_lanes_gives_each_lane_a_worker_of_its_own(runner):
    def make():
        seen = []

        def work(item):
            seen.append(item)
            time.sleep(0.3)
            return (os.getpid(), threading.get_ident(), len(seen))

        return work

    done = list(runner.run_pool(make, list(range(8)), resources=Resources(lanes=2), workers=1))
    assert len(done) == 8
    assert len({d.value[0] for d in done}) == 1
    lanes = {d.value[1] for d in done}
    assert len(lanes) == 2
    assert sum(max(d.value[2] for d in done if d.value[1] == lane) for lane in lanes) == 8


@pytest.mark.long
def test_waiting_for_a_cpu_does_not_use_up_the_time_limit(runner):
    there = int(ray.cluster_resources()["CPU"])
    limit = Resources(num_cpus=there, limit_seconds=5.0)  # one after the other: 6 s
    done = list(runner.run_tasks(time.sleep, [1.0] * 6, resources=limit, workers=6))
    assert [d.error for d in done] == [None] * 6


@pytest.mark.long
def test_tasks_wait_for_the_work_of_others_but_not_for_ever(runner):
    @ray.remote
    class Other:
        def answer(self):
            pass

    there = int(ray.cluster_resources()["CPU"])
    other = Other.options(num_cpus=there).remote()
    ray.get(other.answer.remote())
    hasty = RayRunner(patience=Patience(start=0.5, longest=2.0))
    try:
        with pytest.raises(RunnerError, match="for 2 s: other work holds the cluster"):
            list(hasty.run_tasks(abs, [1], resources=Resources(), workers=1))
        results = RayRunner().run_tasks(abs, [-1], resources=Resources(), workers=1)
        threading.Timer(2.0, ray.kill, [other]).start()
        assert [d.value for d in results] == [1]
    finally:
        ray.kill(other)


def test_an_address_where_nothing_listens_is_refused_at_once():
    with pytest.raises(RunnerError, match="nothing answers at"):
        check_reachable("127.0.0.1:1")


@pytest.mark.parametrize("verb", ["run_tasks", "run_pool"])
@pytest.mark.parametrize(
    "error",
    [SourceChangedError("a changed source"), LockedError("a lost lease"), AwayError("no storage")],
    ids=lambda error: type(error).__name__,
)
def test_an_error_in_the_loop_over_results_ends_the_work_that_is_left(runner, verb, error):
    def loop(mine):
        call = getattr(mine, verb)
        work = time.sleep if verb == "run_tasks" else (lambda: time.sleep)
        # Without `closing`: the error keeps this frame alive, and with it the results.
        for _ in call(work, [0.0, 600.0], resources=Resources(), workers=2):
            raise error

    mine = RayRunner()
    started = time.monotonic()
    with pytest.raises(type(error)) as raised, closing(mine):
        loop(mine)
    there = ray.cluster_resources()["CPU"]
    wait_until(lambda: ray.available_resources().get("CPU") == there)
    assert time.monotonic() - started < 60.0
    assert raised.value is error


def run_program(folder, text, **how):
    """What a program that starts a Ray of its own prints, as words."""
    program = folder / "program.py"
    program.write_text(text)
    done = subprocess.run(
        [sys.executable, program], capture_output=True, text=True, timeout=LONG, check=False, **how
    )
    assert "Traceback" not in done.stderr, done.stderr
    return done.stdout.split()


@pytest.mark.long
def test_results_that_outlive_their_runner_start_no_ray(tmp_path):
    assert run_program(tmp_path, OUTLIVE) == ["closed", "False", "False"]


@pytest.mark.long
def test_folders_named_like_our_packages_do_not_stand_before_them_on_workers(tmp_path):
    folder, work = tmp_path / "program", tmp_path / "work"
    folder.mkdir()
    for name in ("jobs", "fusion", "cluster"):
        (work / name).mkdir(parents=True)
        (work / name / "__init__.py").write_text("raise ImportError('not ours')")
    assert run_program(folder, SHADOWED, cwd=work) == ["True"] * 4


SHADOWED = """
import os
from cluster.ray.runner import RayRunner
from cluster.workers.runner import Resources, host_of

runner = RayRunner()
for results in (
    runner.run_tasks(host_of, ["a/1", "b/2"], resources=Resources(), workers=2),
    runner.run_pool(lambda: host_of, ["a/1", "b/2"], resources=Resources(), workers=2),
):
    for done in results:
        print(done.value == "ab"[done.index] or done.error)
runner.close()
"""


OUTLIVE = """
import time
from cluster.ray.runner import RayRunner
from cluster.workers.runner import Resources
import ray

def wait(seconds):
    time.sleep(seconds)

runner = RayRunner()
tasks = runner.run_tasks(wait, [0.0, 600.0], resources=Resources(num_cpus=0.5), workers=2)
pool = runner.run_pool(lambda: wait, [0.0, 600.0], resources=Resources(num_cpus=0.5), workers=2)
next(tasks), next(pool)
ray.shutdown()
tasks.close(), pool.close()
runner.close()
print("closed", ray.is_initialized())
try:
    ray.nodes()
except Exception:
    pass
print(ray.is_initialized())
"""


@pytest.mark.slow
def test_a_ray_that_dies_while_it_starts_is_told(tmp_path):
    words = run_program(tmp_path, DYING)
    assert " ".join(words).startswith("E-CLUSTER Ray did not start on this machine")


DYING = """
import os, signal, subprocess, threading, time
from cluster.ray.runner import RayRunner

def kill():
    while True:
        ask = ["pgrep", "-P", str(os.getpid()), "-f", "raylet/raylet"]
        for found in subprocess.run(ask, capture_output=True, text=True).stdout.split():
            os.kill(int(found), signal.SIGKILL)
            return
        time.sleep(0.01)

threading.Thread(target=kill, daemon=True).start()
try:
    RayRunner()
except Exception as error:
    print(getattr(error, "code", type(error)), error)
"""
