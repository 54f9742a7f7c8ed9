"""Work on Ray: plain tasks for evaluations, a pool of actors for the merge.

Ray carries orders and small answers, never tensors. Plain retried tasks can hang for minutes when a
host goes silent; the pool has its own deadline a unit and does late units elsewhere.
"""

import logging
import os
import signal
import statistics
import threading
import time
from collections.abc import Callable, Generator, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")

import ray
from ray.exceptions import (
    GetTimeoutError,
    RayActorError,
    RayError,
    RayTaskError,
    TaskCancelledError,
)
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from cluster.errors import RunnerError
from cluster.ray_address import check_reachable, close_token_file
from cluster.runner import Done, Item, Resources, Result

OBJECT_STORE_BYTES = 256 << 20
POLL_SECONDS = 1.0
LOST_HOST_RETRIES = 2
UNIT_TRIES = 4
SHORTEST_DEADLINE_SECONDS = 30.0
LONGEST_DEADLINE_SECONDS = 3600.0
SAMPLES = 5
START_SECONDS = 120.0
STILLBORN_AT_MOST = 3
MOST_A_NODE = 64
NAMESPACE = "metafuse"
AUTHENTICATION_LOGGER = "ray._private.authentication.authentication_token_setup"


@dataclass
class Slot:
    """One lane of an actor and what it is doing. `starting` is None once the actor answered."""

    actor: Any
    node: str
    starting: Any
    index: int = -1
    reference: Any = None
    started: float = 0.0
    is_written_off: bool = False


@dataclass
class Pool:
    """The state of one `run_pool`: what is to do, what is running, how often it was tried."""

    todo: list[int]
    slots: list[Slot] = field(default_factory=list)
    tries: dict[int, int] = field(default_factory=dict)
    finished: set[int] = field(default_factory=set)
    seconds: list[float] = field(default_factory=list)
    began: float = field(default_factory=time.monotonic)
    num_stillborn: int = 0

    def deadline(self) -> float:
        """Seconds a unit may take: five times the usual, once that is known."""
        if len(self.seconds) < SAMPLES:
            return LONGEST_DEADLINE_SECONDS
        usual = statistics.median(self.seconds[-50:])
        return max(SHORTEST_DEADLINE_SECONDS, 5 * usual)


class RayRunner:
    """Runs on an embedded Ray (address None) or on a cluster that is already there."""

    def __init__(self, address: str | None = None) -> None:
        """Start or join Ray.

        Raises:
            RunnerError: the cluster does not answer.
        """
        self._is_ours = not ray.is_initialized()
        if not self._is_ours:
            return
        common: dict[str, Any] = {
            "namespace": NAMESPACE,
            "log_to_driver": False,
            "logging_level": "error",
            "configure_logging": False,
        }
        on_terminate = signal.getsignal(signal.SIGTERM)
        try:
            if address is None:
                # Token authentication is what we want here; Ray warns that it is on.
                logging.getLogger(AUTHENTICATION_LOGGER).setLevel(logging.ERROR)
                # Never a bare ray.init(): it joins whatever Ray runs on the machine.
                ray.init(
                    address="local",
                    include_dashboard=False,
                    object_store_memory=OBJECT_STORE_BYTES,
                    **common,
                )
                close_token_file()
            else:
                check_reachable(address)
                ray.init(address=address, **common)
        except (ConnectionError, RuntimeError, RayError, ValueError) as error:
            raise RunnerError(
                f"Ray at {address or 'this machine'} does not answer: {str(error).splitlines()[0]}",
                "check --address and RAY_AUTH_TOKEN_PATH, then run the same command again",
            ) from None
        if threading.current_thread() is threading.main_thread():
            # Ray ends the process on SIGTERM with a status of its own.
            signal.signal(signal.SIGTERM, on_terminate)

    def run_tasks(
        self,
        function: Callable[[Item], Result],
        items: Sequence[Item],
        /,
        *,
        resources: Resources,
        workers: int,
    ) -> Generator[Done[Result], None, None]:
        _check_feasible(resources)
        # A task that waits for a place would use up its time limit.
        workers = min(max(1, workers), _capacity(resources))
        task = ray.remote(_timed).options(
            max_retries=LOST_HOST_RETRIES, retry_exceptions=False, **_options(resources)
        )
        todo = list(reversed(range(len(items))))
        running: dict[Any, tuple[int, float]] = {}
        try:
            while todo or running:
                while todo and len(running) < workers:
                    index = todo.pop()
                    running[task.remote(function, items[index])] = (index, time.monotonic())
                ready, _ = ray.wait(list(running), timeout=POLL_SECONDS)
                for reference in ready:
                    index, started = running.pop(reference)
                    yield _collect(reference, index, started)
                yield from _cancel_late(running, resources.limit_seconds)
        finally:
            for reference in running:
                ray.cancel(reference, force=True)

    def run_pool(
        self,
        make_worker: Callable[[], Callable[[Item], Result]],
        items: Sequence[Item],
        /,
        *,
        resources: Resources,
        workers: int,
    ) -> Generator[Done[Result], None, None]:
        if not items:
            return
        _check_feasible(resources)
        pool = Pool(todo=list(reversed(range(len(items)))))
        made = ray.put(make_worker)
        try:
            while len(pool.finished) < len(items):
                _fill(pool, made, resources, min(max(1, workers), len(items)))
                _admit(pool)
                _hand_out(pool, items)
                for slot in _find_ready(pool):
                    yield from _settle(pool, slot)
                _write_off_late(pool)
        finally:
            for slot in pool.slots:
                ray.kill(slot.actor)

    def close(self) -> None:
        if self._is_ours and ray.is_initialized():
            ray.shutdown()


class _Worker:
    """Holds what `make_worker` made, once a lane."""

    def __init__(self, make_worker: Callable[[], Callable[[Any], Any]]) -> None:
        self._make_worker = make_worker
        self._lane = threading.local()

    def answer(self) -> None:
        """Says that the actor has started."""

    def run(self, item: Any) -> tuple[Any, float, str]:
        if not hasattr(self._lane, "work"):
            self._lane.work = self._make_worker()
        return _timed(self._lane.work, item)


def _timed(function: Callable[[Any], Any], item: Any) -> tuple[Any, float, str]:
    started = time.monotonic()
    value = function(item)
    return value, time.monotonic() - started, f"{os.uname().nodename}/{os.getpid()}"


def _options(resources: Resources) -> dict[str, Any]:
    options: dict[str, Any] = {"num_cpus": resources.num_cpus, "num_gpus": resources.num_gpus}
    if resources.memory_bytes:
        options["memory"] = resources.memory_bytes
    return options


def _check_feasible(resources: Resources) -> None:
    """An infeasible request would wait for ever without an error."""
    there = [node["Resources"] for node in ray.nodes() if node["Alive"]]
    asked = {"CPU": resources.num_cpus, "GPU": resources.num_gpus}
    asked["memory"] = resources.memory_bytes
    if any(all(node.get(k, 0) >= v for k, v in asked.items()) for node in there):
        return
    most = {k: max((node.get(k, 0) for node in there), default=0) for k in asked}
    raise RunnerError(
        f"no node of the cluster has what one task asks for: {asked}; the most there is: {most}",
        "lower resources in the recipe, or add a larger node",
    )


def _collect(reference: Any, index: int, started: float) -> Done[Any]:
    try:
        value, seconds, worker = ray.get(reference)
    except RayError as error:
        return Done(index, None, _cause(error), time.monotonic() - started, "")
    return Done(index, value, None, seconds, worker)


def _cause(error: RayError) -> Exception:
    """The exception as the function raised it, or ours for a failure of the machines."""
    if isinstance(error, RayTaskError):
        cause = error.cause
        if isinstance(cause, Exception):
            return cause
    if isinstance(error, TaskCancelledError):
        return RunnerError("the task was cancelled")
    return RunnerError(f"the worker was lost: {str(error).splitlines()[0]}")


def _cancel_late(running: dict[Any, tuple[int, float]], limit: float | None) -> Iterator[Done[Any]]:
    now = time.monotonic()
    for reference, (index, started) in list(running.items()):
        if limit is not None and now - started > limit:
            ray.cancel(reference, force=True)
            del running[reference]
            error = RunnerError(f"took longer than its limit of {limit:g} s and was stopped")
            yield Done(index, None, error, now - started, "")


def _fill(pool: Pool, made: Any, resources: Resources, wanted: int) -> None:
    """Bring the pool to its size, spread over the nodes that have room for work."""
    useful = {slot.actor for slot in pool.slots if not slot.is_written_off}
    if len(useful) >= wanted:
        return
    room = _room(resources)
    if not room:
        raise RunnerError("no node of the cluster is alive and has CPUs", "check ray status")
    load = {node: len({s.actor for s in pool.slots if s.node == node}) for node in room}
    for _ in range(wanted - len(useful)):
        node = min(room, key=lambda name: (load[name] >= room[name], load[name], name))
        if load[node] >= room[node]:
            return
        load[node] += 1
        place = NodeAffinitySchedulingStrategy(node, soft=len(room) == 1)
        options = {"max_restarts": 0, "scheduling_strategy": place, **_options(resources)}
        options["max_concurrency"] = resources.lanes
        actor = ray.remote(_Worker).options(**options).remote(made)
        starting = actor.answer.remote()
        pool.slots += [Slot(actor, node, starting) for _ in range(resources.lanes)]


def _room(resources: Resources) -> dict[str, int]:
    """Workers that fit on each living node, by what the node has in all."""
    asked = {"CPU": resources.num_cpus, "GPU": resources.num_gpus}
    asked["memory"] = resources.memory_bytes
    room = {}
    for node in ray.nodes():
        there = node["Resources"]
        counts = [int(there.get(k, 0) // v) for k, v in asked.items() if v]
        if node["Alive"] and min(counts, default=MOST_A_NODE):
            room[node["NodeID"]] = min(counts, default=MOST_A_NODE)
    return room


def _capacity(resources: Resources) -> int:
    return max(1, sum(_room(resources).values()))


def _admit(pool: Pool) -> None:
    """Actors that have started may be given units; those that die before are replaced.

    Raises:
        RunnerError: none starts.
    """
    starting = {slot.starting for slot in pool.slots if slot.starting is not None}
    if not starting:
        return
    has_started = any(slot.starting is None for slot in pool.slots)
    timeout = 0.0 if has_started else POLL_SECONDS
    ready, _ = ray.wait(list(starting), num_returns=len(starting), timeout=timeout)
    for reference in ready:
        lanes = [slot for slot in pool.slots if slot.starting == reference]
        try:
            ray.get(reference)
        except RayError as error:
            pool.slots = [slot for slot in pool.slots if slot not in lanes]
            pool.num_stillborn += 1
            if pool.num_stillborn > STILLBORN_AT_MOST:
                reason = str(error).splitlines()[0]
                raise RunnerError(f"workers die before they start: {reason}") from None
            continue
        for slot in lanes:
            slot.starting = None
    if not has_started and not ready and time.monotonic() - pool.began > START_SECONDS:
        raise RunnerError(
            f"no worker started within {START_SECONDS:g} s",
            "check `ray status`: other work may hold the CPUs of the cluster",
        )


def _hand_out(pool: Pool, items: Sequence[Any]) -> None:
    for slot in pool.slots:
        if slot.reference is None and slot.starting is None and pool.todo:
            index = pool.todo.pop()
            pool.tries[index] = pool.tries.get(index, 0) + 1
            slot.index, slot.started = index, time.monotonic()
            slot.reference = slot.actor.run.remote(items[index])


def _find_ready(pool: Pool) -> list[Slot]:
    busy = {slot.reference: slot for slot in pool.slots if slot.reference is not None}
    if not busy:
        return []
    ready, _ = ray.wait(list(busy), timeout=POLL_SECONDS)
    return [busy[reference] for reference in ready]


def _settle(pool: Pool, slot: Slot) -> Iterator[Done[Any]]:
    """Take the answer of a slot: a result, an error of the function, or a lost worker."""
    reference, index, slot.reference = slot.reference, slot.index, None
    try:
        value, seconds, worker = ray.get(reference, timeout=POLL_SECONDS)
        done = Done(index, value, None, seconds, worker)
        pool.seconds.append(seconds)
    except (RayActorError, GetTimeoutError) as error:
        pool.slots.remove(slot)
        ray.kill(slot.actor)  # its other lanes fail by themselves
        if index in pool.finished or slot.is_written_off:
            return
        if pool.tries[index] < UNIT_TRIES:
            pool.todo.append(index)
            return
        reason = str(error).splitlines()[0]
        lost = RunnerError(f"item {index} lost {UNIT_TRIES} workers, the last by: {reason}")
        done = Done(index, None, lost, time.monotonic() - slot.started, "")
    except RayError as error:
        done = Done(index, None, _cause(error), time.monotonic() - slot.started, "")
    slot.is_written_off = False
    if index not in pool.finished:
        pool.finished.add(index)
        yield done


def _write_off_late(pool: Pool) -> None:
    """Do late units elsewhere; the late worker may still finish, its bytes are the same."""
    now, limit = time.monotonic(), pool.deadline()
    for slot in pool.slots:
        late = slot.reference is not None and now - slot.started > limit
        if late and not slot.is_written_off and slot.index not in pool.finished:
            slot.is_written_off = True
            if pool.tries[slot.index] < UNIT_TRIES:
                pool.todo.append(slot.index)
