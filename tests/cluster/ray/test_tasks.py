"""Tasks on several nodes of one machine: where they go, and what happens when a node goes."""

import os
import signal
import subprocess
import time
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest
import ray

from cluster.errors import RunnerError
from cluster.ray.nodes import find_nodes
from cluster.ray.runner import RayRunner
from cluster.workers.board import Node, find_room
from cluster.workers.patience import PATIENCE, Patience
from cluster.workers.runner import Resources
from tests.support.ray_machines import STORE, in_background, ray_machines, seen
from tests.support.waiting import end_of, wait_until

pytestmark = [pytest.mark.xdist_group("ray")]


def slow(test):
    return pytest.mark.ray(pytest.mark.slow(test))


@pytest.fixture
def machines():
    """A head with CPUs of its own, to which tests add nodes."""
    with ray_machines() as made:
        yield made


def stay(order):
    """Work that notes in a file where it was begun."""
    folder, name, seconds = order
    node = ray.get_runtime_context().get_node_id()
    Path(folder, f"{node}.{os.getpid()}.{name}").touch()
    time.sleep(seconds)
    return node


def die(folder):
    stay((folder, "poison", 0.0))
    os.kill(os.getpid(), signal.SIGKILL)


def run(folder, count, *, seconds=0.5, patience=PATIENCE, **resources):
    orders = [(str(folder), n, seconds) for n in range(count)]
    asked = Resources(**resources)
    return RayRunner(patience=patience).run_tasks(stay, orders, resources=asked, workers=8)


@contextmanager
def silenced(node):
    """Every process of a node stands still, as seen from outside a host whose cable is cut."""
    raylet = node.all_processes["raylet"][0].process.pid
    found = subprocess.run(["pgrep", "-P", str(raylet)], capture_output=True, text=True, check=True)
    processes = [raylet, *map(int, found.stdout.split())]
    for process in processes:
        os.kill(process, signal.SIGSTOP)
    try:
        yield
    finally:
        for process in processes:
            with suppress(ProcessLookupError):
                os.kill(process, signal.SIGCONT)


def node(name, *, is_head=False, **resources):
    return Node(name, resources, is_head=is_head)


def test_room_is_counted_by_what_ray_can_place():
    nodes = [
        node("head", is_head=True, CPU=8.0),
        node("plain", CPU=8.0),
        node("gpus", CPU=8.0, GPU=4.0, **{"accelerator_type:A100": 1.0}),
        node("old", CPU=8.0, GPU=4.0, **{"accelerator_type:T4": 1.0}),
    ]
    assert find_room(nodes, Resources()) == {"plain": 8, "gpus": 8, "old": 8}
    assert find_room(nodes[:1], Resources()) == {"head": 8}
    # A GPU has room for one share of 0.6, however many GPUs there are.
    assert find_room(nodes, Resources(num_gpus=0.6)) == {"gpus": 4, "old": 4}
    assert find_room(nodes, Resources(num_gpus=0.2)) == {"gpus": 8, "old": 8}
    assert find_room(nodes, Resources(num_gpus=2, accelerator_type="A100")) == {"gpus": 2}
    assert find_room(nodes, Resources(accelerator_type="H100")) == {}


def test_a_lack_says_what_was_asked_and_the_most_there_is():
    hosts = [{"CPU": 8.0, "GPU": 2.0, "accelerator_type:T4": 1.0}, {"CPU": 64.0}]
    asked = Resources(16, 1, accelerator_type="A100")
    assert not any(asked.fit(host) for host in hosts)
    text = (
        "CPU 16, GPU 1, accelerator A100; the most there is on one: CPU 64, GPU 2, accelerator T4"
    )
    assert asked.describe_lack(hosts) == text


@slow
def test_tasks_go_where_there_is_what_they_ask_for(machines, tmp_path):
    (head,) = [node.id for node in find_nodes() if node.is_head]
    plain = machines.add_node(num_cpus=1, **STORE).node_id
    fast = machines.add_node(num_cpus=1, resources={"accelerator_type:A100": 1}, **STORE).node_id
    assert {d.value for d in run(tmp_path, 6)} == {plain, fast}
    assert {d.value for d in run(tmp_path, 3, accelerator_type="A100")} == {fast}
    assert {d.value for d in run(tmp_path, 3, num_cpus=2)} == {head}  # no other has two
    with pytest.raises(RunnerError, match=r"accelerator H100; .* accelerator A100\. Nothing was"):
        list(run(tmp_path, 1, accelerator_type="H100"))


@slow
def test_tasks_of_a_silent_node_are_done_on_another(machines, tmp_path):
    nodes = {n.node_id: n for n in (machines.add_node(num_cpus=1, **STORE) for _ in range(2))}
    patience = Patience(beat=0.5, silent=6.0)
    thread, done = in_background(run(tmp_path, 8, seconds=3.0, patience=patience))
    wait_until(lambda: len({node for node, _, _ in seen(tmp_path)}) == 2)
    time.sleep(1.0)
    cut = min(nodes)
    with silenced(nodes[cut]):  # until all is done
        end_of(thread)
    assert sorted(d.index for d in done) == list(range(8))
    assert [d.error for d in done] == [None] * 8
    assert [d.tries for d in done].count(2) == 1
    (again,) = [d for d in done if d.tries == 2]
    assert again.value != cut


@slow
def test_a_node_that_was_silent_for_a_while_is_used_again_and_each_task_counts_once(
    machines, tmp_path
):
    nodes = {n.node_id: n for n in (machines.add_node(num_cpus=1, **STORE) for _ in range(2))}
    patience = Patience(beat=0.5, silent=4.0, look=0.5)
    thread, done = in_background(run(tmp_path, 20, seconds=2.0, patience=patience))
    wait_until(lambda: len({node for node, _, _ in seen(tmp_path)}) == 2)
    time.sleep(3.0)  # its heartbeat has been heard
    cut = min(nodes)
    with silenced(nodes[cut]):
        time.sleep(8.0)
    before = {item for node, _, item in seen(tmp_path) if node == cut}
    end_of(thread)
    assert sorted(d.index for d in done) == list(range(20))
    assert [d.error for d in done] == [None] * 20
    assert {item for node, _, item in seen(tmp_path) if node == cut} > before


@slow
def test_tasks_of_a_node_that_goes_are_done_on_another(machines, tmp_path):
    nodes = [machines.add_node(num_cpus=1, **STORE) for _ in range(2)]
    thread, done = in_background(run(tmp_path, 8, seconds=2.0))
    wait_until(lambda: len({node for node, _, _ in seen(tmp_path)}) == 2)
    machines.remove_node(nodes[0], allow_graceful=False)
    end_of(thread)
    assert sorted(d.index for d in done) == list(range(8))
    assert [d.error for d in done] == [None] * 8
    assert max(d.tries for d in done) == 2


@slow
def test_a_task_that_kills_its_workers_is_tried_on_other_nodes_and_then_named(machines, tmp_path):
    for _ in range(3):
        machines.add_node(num_cpus=1, **STORE)
    (done,) = RayRunner().run_tasks(die, [str(tmp_path)], resources=Resources(), workers=1)
    assert "the worker was lost 3 times, on " in str(done.error)
    assert done.tries == 3
    assert len({node for node, _, _ in seen(tmp_path)}) == 3


@slow
def test_a_task_that_the_memory_killer_takes_does_not_loop(monkeypatch, tmp_path):
    monkeypatch.setenv("RAY_memory_usage_threshold", "0.01")  # every task is too much
    with ray_machines(num_cpus=1):
        (done,) = run(tmp_path, 1, seconds=60.0)
    assert "the worker was lost 3 times" in str(done.error)
    assert "memory" in str(done.error)
    assert len(seen(tmp_path)) <= 3
