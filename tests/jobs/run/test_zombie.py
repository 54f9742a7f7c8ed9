"""A driver that slept while another finished its run wakes up, and changes nothing of that run."""

import random
import signal
import subprocess
import sys
import threading
from contextlib import contextmanager
from dataclasses import dataclass

import psutil
import pytest

from cluster.stores.open_store import open_store
from cluster.workers.patience import Patience
from jobs.errors import LockedError
from tests.support.killing import ASLEEP, ROOT
from tests.support.publishing import bury, check_promoted_once, copy_output, drop_output
from tests.support.running import run_project
from tests.support.stopping import Stopper, stoppable
from tests.support.waiting import LONG, wait_until
from tests.support.whole_run import BEFORE, DAY, aim, make_scene

RUN = f"nightly-{DAY}"


def look(output):
    """Every object of all runs and the pointer: an etag changes with every write, same or not."""
    store = open_store(output)
    keys = [entry.key for entry in store.list("runs/")] + ["latest.json"]
    uploads = [upload.key for upload in store.list_uploads()]
    return {key: store.head(key).etag for key in keys} | dict.fromkeys(uploads, "upload")


def find_changes(before, now):
    return [key for key in {**before, **now} if before.get(key) != now.get(key)]


@dataclass
class Sleeper:
    """A driver in a thread of this process that falls asleep at an operation."""

    project: object
    stopper: Stopper
    end: object = None

    def __post_init__(self):
        self.asleep, self.awake = threading.Event(), threading.Event()
        self.stopper.sleep = self._sleep
        self.thread = threading.Thread(target=self._drive, daemon=True)

    def _sleep(self):
        self.asleep.set()
        self.awake.wait()

    def _drive(self):
        try:
            self.end = run_project(self.project, date=DAY)
        except Exception as error:  # noqa: BLE001  # looked at by the test
            self.end = error

    def wake(self):
        self.awake.set()
        self.thread.join()


def check_sleep(scene, output, operation):
    copy_output(scene.output, output)
    aim(scene.project, output)
    sleeper = Sleeper(scene.project, Stopper(operation))
    with stoppable(sleeper.stopper):
        sleeper.thread.start()
        assert sleeper.asleep.wait(LONG)
    where = sleeper.stopper.seen[-1]
    bury(output)
    assert run_project(scene.project, date=DAY).outcome.result == "promoted"
    before = look(output)
    sleeper.wake()
    assert find_changes(before, look(output)) == [], (where, sleeper.end)
    if isinstance(sleeper.end, Exception):
        assert isinstance(sleeper.end, LockedError), (where, sleeper.end)
    else:
        assert sleeper.end.outcome.result in ("promoted", "nothing_new"), where
    check_promoted_once(output, RUN, BEFORE, scene.new)
    drop_output(output)


def check_sleeps(scene, place, operations):
    # Asleep after an operation is asleep before the next one.
    for operation in operations:
        check_sleep(scene, f"{place}-{operation}", operation)


@pytest.mark.long
def test_a_driver_that_slept_at_sampled_operations_changes_nothing(project):
    scene = make_scene(project, "memory://slept")
    chosen = random.Random(25).sample(range(1, scene.num_operations + 1), 8)
    check_sleeps(scene, "memory://slept", chosen)


@pytest.mark.slow
@pytest.mark.parametrize("part", range(4))
@pytest.mark.parametrize("kind", ["memory", "local"])
def test_a_driver_that_slept_at_any_operation_changes_nothing(project, quick_folder, kind, part):
    place = f"memory://slept-{part}" if kind == "memory" else str(quick_folder / "slept")
    scene = make_scene(project, place)
    check_sleeps(scene, place, range(1 + part, scene.num_operations + 1, 4))


@contextmanager
def asleep(command):
    """A process that has stopped itself."""
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    with subprocess.Popen(command, cwd=ROOT, text=True, **pipes) as process:
        try:
            wait_until(lambda: is_stopped_or_gone(process))
            assert process.poll() is None, process.stderr.read()
            yield process
        finally:
            process.kill()


def is_stopped_or_gone(process):
    return process.poll() is not None or psutil.Process(process.pid).status() == "stopped"


@pytest.mark.parametrize(
    "key", ["recipe.yaml", pytest.param("00001.upload", marks=pytest.mark.slow), "report.json"]
)
@pytest.mark.long
def test_a_process_that_was_stopped_leaves_with_30_when_it_goes_on(project, quick_folder, key):
    """Before it evaluates, while it merges, and before its report."""
    output = str(quick_folder / "out")
    aim(project, output)
    with stoppable(Stopper()) as stopper:
        run_project(project, date=DAY)
    operation = [place.endswith(key) and verb == "put" for verb, place in stopper.seen].index(True)
    drop_output(output)
    command = [sys.executable, "-c", ASLEEP, str(operation + 1), str(project), DAY]
    with asleep(command) as sleeper:
        hasty = Patience(lease_silent=1.0, lease_poll=0.1)
        assert run_project(project, date=DAY, patience=hasty).outcome.result == "promoted"
        before = look(output)
        sleeper.send_signal(signal.SIGCONT)
        _, said = sleeper.communicate(timeout=LONG)
    assert sleeper.returncode == 30, said
    assert "was taken over by another driver" in said
    assert find_changes(before, look(output)) == []
