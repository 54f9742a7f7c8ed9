"""Plain tasks on Ray: a limit that counts from the start on the host, and retries of our own.

Ray's retries are off. They hang for minutes on a host that went silent, and never end where the
memory killer takes the same task again and again. A task here is a stream of two answers: that it
has begun, and its result.
"""

import logging
import time
from collections.abc import Callable, Generator, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import ray
from ray.exceptions import (
    GetTimeoutError,
    LocalRayletDiedError,
    NodeDiedError,
    ObjectLostError,
    OutOfMemoryError,
    RayError,
    TaskCancelledError,
    WorkerCrashedError,
)

from cluster.errors import RunnerError, first_line
from cluster.ray.nodes import (
    ANSWER_SECONDS,
    cause,
    find_nodes,
    ray_options,
    timed,
)
from cluster.ray.watch import Watch
from cluster.workers.board import Node, find_room
from cluster.workers.patience import Patience
from cluster.workers.runner import Done, Item, Resources, Result, this_worker

LOST_HOST_RETRIES = 2
NODE_LABEL = "ray.io/node-id"
LOST_HOST = (
    WorkerCrashedError,
    NodeDiedError,
    OutOfMemoryError,
    LocalRayletDiedError,
    ObjectLostError,
    GetTimeoutError,
)

log = logging.getLogger(__name__)


@dataclass
class _Attempt:
    """One try of an item. `node` is "" until it says that it has begun."""

    index: int
    number: int
    avoided: frozenset[str]
    sent: float
    node: str = ""
    worker: str = "a host unknown"
    started: float = 0.0
    is_written_off: bool = False

    def spent(self, now: float) -> float:
        return now - (self.started if self.node else self.sent)


def run_tasks(
    function: Callable[[Item], Result],
    items: Sequence[Item],
    /,
    *,
    resources: Resources,
    workers: int,
    patience: Patience,
) -> Generator[Done[Result], None, None]:
    """Carry out `Runner.run_tasks`."""
    tasks = _Tasks(function, items, resources, max(1, workers), patience)
    try:
        while len(tasks.finished) < len(items):
            tasks.look()
            tasks.send()
            yield from tasks.collect()
            yield from tasks.give_up()
    finally:
        tasks.close()


def perform(function: Callable[[Any], Any], item: Any) -> Iterator[tuple[Any, ...]]:
    """Says where it has begun, then the value, the seconds it took, and host/process."""
    yield ray.get_runtime_context().get_node_id(), this_worker()
    yield timed(function, item)


@dataclass
class _Tasks:
    function: Callable[[Any], Any]
    items: Sequence[Any]
    resources: Resources
    workers: int
    patience: Patience
    todo: list[int] = field(default_factory=list)
    running: dict[Any, _Attempt] = field(default_factory=dict)
    finished: set[int] = field(default_factory=set)
    losses: dict[int, list[_Attempt]] = field(default_factory=dict)
    nodes: list[Node] = field(default_factory=list)
    known: set[str] = field(default_factory=set)
    heard: list[Node] = field(default_factory=list)
    room: dict[str, int] = field(default_factory=dict)
    silent: frozenset[str] = frozenset()
    looked: float = float("-inf")
    passed: float = field(default_factory=time.monotonic)
    answered: float = field(default_factory=time.monotonic)

    def __post_init__(self) -> None:
        self.todo = list(reversed(range(len(self.items))))
        self.watch = Watch(self.patience)
        self.task = ray.remote(perform)
        self.options = {
            "max_retries": 0,
            "num_returns": "streaming",
            "scheduling_strategy": "SPREAD",
            "name": getattr(self.function, "__name__", "task"),
            **ray_options(self.resources),
        }

    def look(self) -> None:
        """See which nodes there are, and which of them have gone silent.

        Raises:
            RunnerError: no task could begin for minutes.
        """
        now = time.monotonic()
        slept, self.passed = now - self.passed, now
        if slept > self.patience.slept:
            self.watch.forgive(slept)
            self.answered += slept
        self.watch.listen(now)
        if (silent := self.watch.find_silent(now)) != self.silent:
            self.silent = silent
            log.warning("silent nodes: %s", ", ".join(sorted(silent)) or "none")
        if now - self.looked >= self.patience.look:
            self.looked = now
            self.nodes = find_nodes()
            self.known |= {node.id for node in self.nodes}
            # Where there is one node, nothing can be done elsewhere.
            self.watch.keep([n.id for n in self.nodes] if len(self.nodes) > 1 else [], now)
        self.heard = [node for node in self.nodes if node.id not in self.silent]
        self.room = find_room(self.heard, self.resources)
        self._check_standstill(now)

    def send(self) -> None:
        """Hand to Ray what the nodes have room for; the rest waits here."""
        free = min(self.workers, sum(self.room.values()))
        free -= sum(not a.is_written_off for a in self.running.values())
        # Ray counts what is free; it is told where not to look.
        closed = self.silent | {
            n.id for n in self.heard if (n.is_head or n.is_draining) and n.id not in self.room
        }
        while self.todo and free > 0:
            free -= 1
            index = self.todo.pop()
            lost = self.losses.get(index, [])
            been = {attempt.node for attempt in lost} - {""}
            avoided = closed | been if set(self.room) - been else closed
            options = dict(self.options)
            if avoided:
                options["label_selector"] = {NODE_LABEL: f"!in({','.join(sorted(avoided))})"}
            task = self.task.options(**options)
            attempt = _Attempt(index, len(lost) + 1, frozenset(avoided), time.monotonic())
            self.running[task.remote(self.function, self.items[index])] = attempt

    def collect(self) -> Iterator[Done[Any]]:
        """Take in what has arrived: that tasks have begun, and their results."""
        if not self.running:
            time.sleep(self.patience.poll)
            return
        ray.wait(list(self.running), timeout=self.patience.poll)
        ready, _ = ray.wait(list(self.running), num_returns=len(self.running), timeout=0)
        for stream in ready:
            if stream in self.running:
                yield from self._hear(stream)

    def give_up(self) -> Iterator[Done[Any]]:
        """Stop what is over its limit; do again elsewhere what a silent node has."""
        now = time.monotonic()
        limit = self.resources.limit_seconds
        lost = self.silent | (self.known - {node.id for node in self.nodes})
        for stream, attempt in list(self.running.items()):
            if stream not in self.running:
                continue
            if attempt.node and limit is not None and now - attempt.started > limit:
                text = f"took longer than its limit of {limit:g} s and was stopped"
                self._cancel(stream)
                yield from self._end(attempt, None, RunnerError(text))
            elif not attempt.is_written_off and self._is_lost(attempt, lost):
                attempt.is_written_off = True
                yield from self._again(attempt, "its host fell silent")

    def close(self) -> None:
        """Stop what still runs, unless Ray has ended and all with it."""
        if not ray.is_initialized():
            return
        for stream in list(self.running):
            self._cancel(stream)
        self.watch.close()

    def _hear(self, stream: Any) -> Iterator[Done[Any]]:
        attempt = self.running[stream]
        try:
            answer = ray.get(next(stream), timeout=ANSWER_SECONDS)
        except StopIteration:
            del self.running[stream]
            yield from self._lose(attempt, "it ended without an answer")
        except LOST_HOST as error:
            del self.running[stream]
            yield from self._lose(attempt, first_line(error))
        except TaskCancelledError:
            del self.running[stream]
            yield from self._end(attempt, None, RunnerError("the task was cancelled"))
        except RayError as error:
            del self.running[stream]
            yield from self._end(attempt, None, cause(error))
        else:
            self.answered = time.monotonic()
            if not attempt.node:
                attempt.node, attempt.worker = answer
                attempt.started = self.answered
                return
            del self.running[stream]
            attempt.is_written_off = False  # the first answer counts
            yield from self._end(attempt, answer, None)

    def _end(
        self, attempt: _Attempt, answer: tuple[Any, float, str] | None, error: Exception | None
    ) -> Iterator[Done[Any]]:
        """The item has ended, unless another attempt of it is to decide."""
        index = attempt.index
        if attempt.is_written_off or index in self.finished:
            return
        self.finished.add(index)
        if index in self.todo:
            self.todo.remove(index)
        for stream in [s for s, other in self.running.items() if other.index == index]:
            self._cancel(stream)
        if answer is None:
            spent = attempt.spent(time.monotonic())
            yield Done(index, None, error, spent, attempt.worker, attempt.number)
        else:
            value, seconds, worker = answer
            yield Done(index, value, None, seconds, worker, attempt.number)

    def _lose(self, attempt: _Attempt, reason: str) -> Iterator[Done[Any]]:
        if not attempt.is_written_off:
            yield from self._again(attempt, reason)

    def _again(self, attempt: _Attempt, reason: str) -> Iterator[Done[Any]]:
        """Do the item again, on another node where there is one, or end it after its last try."""
        index = attempt.index
        log.warning(
            "task %d was lost on %s, try %d: %s", index, attempt.worker, attempt.number, reason
        )
        if attempt.is_written_off and not attempt.node:
            # It may only have been on its way to the silent node: not a try.
            self.todo.append(index)
            return
        self.losses.setdefault(index, []).append(attempt)
        if attempt.number <= LOST_HOST_RETRIES:
            self.todo.append(index)
            return
        hosts = ", ".join(dict.fromkeys(lost.worker for lost in self.losses[index]))
        error = RunnerError(
            f"the worker was lost {attempt.number} times, on {hosts}; the last: {reason}",
            "look at these hosts (memory, disk, kernel log), then run the same command again",
        )
        attempt.is_written_off = False
        yield from self._end(attempt, None, error)

    def _is_lost(self, attempt: _Attempt, lost: frozenset[str]) -> bool:
        if attempt.node:
            return attempt.node in lost
        # Not begun: it may have been on its way to a node that fell silent after it was sent.
        return not self.silent <= attempt.avoided

    def _cancel(self, stream: Any) -> None:
        self.running.pop(stream)
        ray.cancel(stream, force=True)

    def _check_standstill(self, now: float) -> None:
        """Work of others is waited for; where no node is left, not for long."""
        if any(a.node and not a.is_written_off for a in self.running.values()):
            self.answered = now
        limit = self.patience.longest if self.room else self.patience.start
        if now - self.answered <= limit:
            return
        why = "other work holds the cluster" if self.room else "no node that fits is left"
        raise RunnerError(
            f"no task could begin for {limit:g} s: {why}. What is finished is kept",
            "check `ray status`, then run the same command again",
        )
