"""The pool on several nodes of one machine: they join, are drained, die, and fall silent."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import ray

from cluster.errors import RunnerError
from cluster.ray.nodes import find_nodes
from cluster.ray.runner import RayRunner
from cluster.workers.patience import Patience
from cluster.workers.runner import Resources
from tests.support.ray_machines import STORE, in_background, ray_machines, seen
from tests.support.waiting import LONG, end_of, wait_until

pytestmark = [pytest.mark.ray, pytest.mark.slow, pytest.mark.xdist_group("ray")]


@pytest.fixture
def machines():
    """A head with CPUs of its own, to which tests add nodes."""
    with ray_machines() as made:
        yield made


def make_slow(folder, seconds):
    """Work that notes in a file which node and process did which item, when it began."""

    def make():
        node = ray.get_runtime_context().get_node_id()

        def work(item):
            with Path(folder, f"{node}.{os.getpid()}.{item}").open("w"):
                time.sleep(seconds)
            return (node, os.getpid(), item)

        return work

    return make


def make_patient(folder):
    """The same, but an item ends only after a second node has begun one."""

    def make():
        node = ray.get_runtime_context().get_node_id()

        def work(item):
            Path(folder, f"{node}.{os.getpid()}.{item}").touch()
            while len({path.name.split(".")[0] for path in Path(folder).iterdir()}) < 2:
                time.sleep(0.1)
            return (node, os.getpid(), item)

        return work

    return make


def run(runner, folder, count, *, seconds=0.5, workers=2, **resources):
    return runner.run_pool(
        make_slow(folder, seconds),
        list(range(count)),
        resources=Resources(**resources),
        workers=workers,
    )


def test_the_head_is_spared_as_long_as_another_node_has_cpus(machines, tmp_path):
    (head,) = [node.id for node in find_nodes() if node.is_head]
    assert {d.value[0] for d in run(RayRunner(), tmp_path, 2, seconds=0.0)} == {head}
    other = machines.add_node(num_cpus=2, **STORE)
    done = list(run(RayRunner(), tmp_path, 4))
    assert {d.value[0] for d in done} == {other.node_id}
    both = list(run(RayRunner(), tmp_path, 8, workers=4, use_head=True))
    assert {d.value[0] for d in both} == {head, other.node_id}


def test_a_silent_worker_loses_its_first_unit_and_may_come_back_late(machines, tmp_path):
    for _ in range(2):
        machines.add_node(num_cpus=1, **STORE)
    runner = RayRunner(patience=Patience(silent=4.0, lost=2 * LONG))
    thread, done = in_background(run(runner, tmp_path, 6, seconds=2.0))
    wait_until(lambda: len(seen(tmp_path)) >= 2)
    _, process, item = min(seen(tmp_path))
    os.kill(int(process), signal.SIGSTOP)
    try:
        wait_until(lambda: any(i == item and p != process for _, p, i in seen(tmp_path)))
        os.kill(int(process), signal.SIGCONT)
        end_of(thread)
    finally:
        os.kill(int(process), signal.SIGCONT)
    assert sorted(d.value[2] for d in done) == list(range(6))
    assert [d.error for d in done] == [None] * 6
    assert any(d.tries == 2 for d in done)


def test_a_worker_that_stays_silent_is_replaced(machines, tmp_path):
    machines.add_node(num_cpus=1, **STORE)
    runner = RayRunner(patience=Patience(silent=3.0, lost=6.0))
    thread, done = in_background(run(runner, tmp_path, 3, seconds=1.0, workers=1))
    wait_until(lambda: seen(tmp_path))
    ((_, process, _),) = seen(tmp_path)
    os.kill(int(process), signal.SIGSTOP)
    end_of(thread)
    assert sorted(d.value[2] for d in done) == [0, 1, 2]
    assert int(process) not in {d.value[1] for d in done}


def test_a_node_that_joins_is_used(machines, tmp_path):
    first = machines.add_node(num_cpus=1, **STORE)
    quick = RayRunner(patience=Patience(look=0.5))
    results = quick.run_pool(
        make_patient(tmp_path), list(range(4)), resources=Resources(), workers=2
    )
    thread, done = in_background(results)
    wait_until(lambda: seen(tmp_path))
    second = machines.add_node(num_cpus=1, **STORE)
    end_of(thread)
    assert {d.value[0] for d in done} == {first.node_id, second.node_id}
    assert len(done) == 4


@pytest.mark.parametrize("graceful", [True, False], ids=["told", "at once"])
def test_work_of_a_node_that_goes_is_done_on_another(machines, tmp_path, graceful):
    nodes = [machines.add_node(num_cpus=1, **STORE) for _ in range(2)]
    thread, done = in_background(run(RayRunner(), tmp_path, 12, seconds=1.0))
    wait_until(lambda: len({node for node, _, _ in seen(tmp_path)}) == 2)
    machines.remove_node(nodes[0], allow_graceful=graceful)
    end_of(thread)
    assert sorted(d.value[2] for d in done) == list(range(12))
    assert [d.error for d in done] == [None] * 12


def test_a_node_that_is_drained_ends_its_unit_and_gets_no_other(machines, tmp_path):
    nodes = [machines.add_node(num_cpus=1, **STORE) for _ in range(2)]
    quick = RayRunner(patience=Patience(look=0.5))
    thread, done = in_background(run(quick, tmp_path, 24, seconds=1.0))
    wait_until(lambda: len({node for node, _, _ in seen(tmp_path)}) == 2)
    drain(machines.address, nodes[0].node_id)
    # Ray lets a drained node go once nothing is left on it.
    wait_until(lambda: nodes[0].node_id not in {node.id for node in find_nodes()})
    end_of(thread)
    assert sorted(d.value[2] for d in done) == list(range(24))
    assert {d.tries for d in done} == {1}


def drain(address, node_id):
    command = [str(Path(sys.executable).parent / "ray"), "drain-node", "--address", address]
    command += ["--node-id", node_id, "--reason", "DRAIN_NODE_REASON_PREEMPTION"]
    command += ["--reason-message", "spot", "--deadline-remaining-seconds", "300"]
    subprocess.run(command, check=True, capture_output=True, timeout=LONG)


class Differing:
    """Makes workers that compute otherwise on one node."""

    def __init__(self, odd, expected=""):
        self.odd, self.expected = odd, expected

    def __call__(self):
        return lambda item: ray.get_runtime_context().get_node_id()

    def fingerprint(self):
        return "odd" if ray.get_runtime_context().get_node_id() == self.odd else "usual"


def test_hosts_that_compute_otherwise_are_refused(machines):
    nodes = [machines.add_node(num_cpus=1, **STORE).node_id for _ in range(3)]
    order = list(range(8))
    runner = RayRunner(patience=Patience(agree=LONG))  # all are asked, however slowly they start
    for make in (Differing(nodes[0], "usual"), Differing(nodes[0])):
        done = list(runner.run_pool(make, order, resources=Resources(), workers=3))
        assert {d.value for d in done} <= set(nodes[1:])
    make = Differing(nodes[0], "never")
    results = runner.run_pool(make, order, resources=Resources(), workers=2)
    with pytest.raises(RunnerError, match="compute otherwise than the units that are finished"):
        list(results)
