"""The pool of worker actors on Ray: what `cluster.workers.board` decides is carried out here.

Ray notices a silent host after one to seven minutes. So every worker has a heartbeat on a thread
of its own, and items of a silent one are done elsewhere.
"""

import logging
import threading
import time
from collections.abc import Callable, Generator, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import ray
from ray.exceptions import GetTimeoutError, RayActorError, RayError
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from cluster.errors import RunnerError, first_line
from cluster.ray.nodes import (
    ANSWER_SECONDS,
    cause,
    find_nodes,
    ray_options,
    timed,
)
from cluster.workers.board import (
    Board,
    Lane,
    Node,
    choose_nodes,
    find_room,
    usual_fingerprint,
)
from cluster.workers.patience import Patience
from cluster.workers.runner import Done, Item, Resources, Result, host_of, this_worker

log = logging.getLogger(__name__)


class WorkerActor:
    """Holds what `make_worker` made, once a lane."""

    def __init__(self, make_worker: Callable[[], Callable[[Any], Any]]) -> None:
        self._make_worker = make_worker
        self._lane = threading.local()

    def answer(self) -> tuple[str, str]:
        """Says that the actor has started: host/process, and how it computes ("" if unasked)."""
        fingerprint = getattr(self._make_worker, "fingerprint", None)
        return this_worker(), fingerprint() if fingerprint else ""

    def beat(self) -> None:
        """Says that the host is there; runs beside the lanes."""

    def run(self, item: Any) -> tuple[Any, float, str]:
        """One item on the lane of this thread."""
        if not hasattr(self._lane, "work"):
            self._lane.work = self._make_worker()
        return timed(self._lane.work, item)


@dataclass
class _Worker:
    """An actor as the driver sees it. `starting` is None once it has answered."""

    number: int
    actor: Any
    node: str
    made: float
    starting: Any
    lanes: dict[Lane, Any]
    name: str = ""
    fingerprint: str = ""
    beat: Any = None
    asked: float = 0.0
    began: float = 0.0
    is_lost: bool = False

    @property
    def host(self) -> str:
        return host_of(self.name)

    def is_silent(self, now: float, patience: Patience) -> bool:
        return self.beat is not None and now - self.asked > patience.silent


def run_pool(
    make_worker: Callable[[], Callable[[Item], Result]],
    items: Sequence[Item],
    /,
    *,
    resources: Resources,
    workers: int,
    patience: Patience,
    on_lost: Callable[[], None] = lambda: None,
) -> Generator[Done[Result], None, None]:
    """Carry out `Runner.run_pool`.

    An item may have an `effort` (its size beside the others) and a `label` (for messages).
    `make_worker` may have a `fingerprint()`, called once in every worker: hosts whose answer
    differs from its `expected`, or else from that of most hosts, get no item.
    """
    board = Board(
        [float(getattr(item, "effort", 1.0)) for item in items],
        [str(getattr(item, "label", f"item {n}")) for n, item in enumerate(items)],
        patience,
    )
    pool = _Pool(board, items, ray.put(make_worker), resources, min(max(1, workers), len(items)))
    pool.on_lost = on_lost
    pool.fingerprint = getattr(make_worker, "expected", "") or None
    try:
        while not board.is_done:
            pool.fill()
            pool.compare()
            pool.hand_out()
            yield from pool.collect()
            pool.check_silence()
            yield from pool.name_poison()
    finally:
        # Where Ray has ended, the workers have.
        for worker in pool.workers if ray.is_initialized() else ():
            ray.kill(worker.actor)


@dataclass
class _Pool:
    board: Board
    items: Sequence[Any]
    made: Any
    resources: Resources
    wanted: int
    workers: list[_Worker] = field(default_factory=list)
    stillborn: dict[str, int] = field(default_factory=dict)
    poison: list[int] = field(default_factory=list)
    last_death: str = ""
    fingerprint: str | None = None
    refused: dict[str, str] = field(default_factory=dict)
    num_made: int = 0
    on_lost: Callable[[], None] = lambda: None
    looked: float = float("-inf")
    passed: float = field(default_factory=time.monotonic)
    answered: float = field(default_factory=time.monotonic)

    def fill(self) -> None:
        """Leave nodes that are drained; bring the pool to its size on the others.

        Raises:
            RunnerError: no worker could be had for minutes.
        """
        now = time.monotonic()
        patience = self.board.patience
        if any(w.starting is None and not w.is_silent(now, patience) for w in self.workers):
            self.answered = now
        elif now - self.answered > patience.start:
            raise self._none_answers()
        if now - self.looked < patience.look:
            return
        self.looked = now
        nodes = find_nodes()
        self._leave(nodes)
        useful = [w for w in self.workers if not w.is_lost and not w.is_silent(now, patience)]
        room = find_room(nodes, self.resources)
        silent = {w.node for w in self.workers if w.is_silent(now, patience)}
        bad = {node for node, count in self.stillborn.items() if count > patience.stillborn}
        bad |= set(self.refused)
        if room and not self.workers and bad.issuperset(room):
            raise self._none_is_fit()
        room = {node: n for node, n in room.items() if node not in silent | bad}
        load: dict[str, int] = {}
        for worker in self.workers:
            load[worker.node] = load.get(worker.node, 0) + 1
        for node in choose_nodes(room, load, self.wanted - len(useful)):
            self._make(node, is_only=len(nodes) == 1)

    def compare(self) -> None:
        """Refuse hosts that compute otherwise: than earlier units, or else than most hosts do.

        What most do is known when all have started, or a few seconds after the first.
        """
        started = [w for w in self.workers if w.starting is None]
        if self.fingerprint is None and started:
            waited = time.monotonic() - min(w.began for w in started)
            if len(started) < len(self.workers) and waited < self.board.patience.agree:
                return
            self.fingerprint = usual_fingerprint([(w.node, w.fingerprint) for w in started])
        for worker in started:
            if self.fingerprint is not None and worker.fingerprint != self.fingerprint:
                found = worker.fingerprint[:12]
                self.refused[worker.node] = f"{worker.host} ({found})"
                self._drop(worker, f"computes {found}, not {self.fingerprint[:12]}")

    def hand_out(self) -> None:
        """One item to each free lane of workers that answer."""
        if self.fingerprint is None:
            return
        now = time.monotonic()
        for worker in self.workers:
            if worker.starting is not None or worker.is_lost:
                continue
            if worker.beat is None and now - worker.asked >= self.board.patience.beat:
                worker.asked = now
                worker.beat = worker.actor.beat.options(concurrency_group="beats").remote()
            if worker.is_silent(now, self.board.patience):
                continue
            for lane, reference in worker.lanes.items():
                if reference is not None:
                    continue
                index = self.board.take(lane, worker.name, now)
                if index is None:
                    return
                worker.lanes[lane] = worker.actor.run.remote(self.items[index])

    def collect(self) -> Iterator[Done[Any]]:
        """Take in what has arrived: starts, heartbeats, answers."""
        waiting: dict[Any, tuple[_Worker, Lane | None]] = {}
        for worker in self.workers:
            waiting |= {r: (worker, None) for r in (worker.starting, worker.beat) if r is not None}
            waiting |= {r: (worker, lane) for lane, r in worker.lanes.items() if r is not None}
        if not waiting:
            time.sleep(self.board.patience.poll)
            return
        ray.wait(list(waiting), timeout=self.board.patience.poll)
        ready, _ = ray.wait(list(waiting), num_returns=len(waiting), timeout=0)
        for reference in ready:
            worker, lane = waiting[reference]
            if lane is not None:
                yield from self._settle(worker, lane, reference)
            elif reference is worker.starting:
                self._admit(worker)
            else:
                self._hear(worker)
        self.workers = [w for w in self.workers if not w.is_lost or any(w.lanes.values())]

    def check_silence(self) -> None:
        """Write off what is late or on silent workers; replace workers that stay silent."""
        now = time.monotonic()
        slept, self.passed = now - self.passed, now
        if slept > self.board.patience.slept:
            for worker in self.workers:
                worker.asked += slept
            return
        patience = self.board.patience
        silent = [w for w in self.workers if w.is_silent(now, patience)]
        self.poison += self.board.write_off({w.number for w in silent}, now)
        for worker in silent:
            if now - worker.asked > patience.lost:
                self._drop(worker, f"silent for {patience.lost:.0f} s")
        for worker in list(self.workers):
            if worker.starting is not None and now - worker.made > patience.start:
                self._drop(worker, f"did not start within {patience.start:.0f} s")

    def name_poison(self) -> Iterator[Done[Any]]:
        """The items that used up their tries, as errors."""
        for index in self.poison:
            if index not in self.board.finished:
                tries = self.board.tries[index]
                yield Done(index, None, self.board.describe_poison(index), 0.0, "", tries)
        self.poison = []

    def _make(self, node: str, *, is_only: bool) -> None:
        place = NodeAffinitySchedulingStrategy(node, soft=is_only)
        options = {"max_restarts": 0, "scheduling_strategy": place, **ray_options(self.resources)}
        options["max_concurrency"] = self.resources.lanes
        remote = ray.remote(concurrency_groups={"beats": 1})(WorkerActor)
        actor = remote.options(**options).remote(self.made)
        number, self.num_made = self.num_made, self.num_made + 1
        lanes: dict[Lane, Any] = {(number, lane): None for lane in range(self.resources.lanes)}
        now = time.monotonic()
        self.workers.append(_Worker(number, actor, node, now, actor.answer.remote(), lanes))

    def _leave(self, nodes: Sequence[Node]) -> None:
        """Workers on a node that is being drained end what they do, and then go."""
        draining = {node.id for node in nodes if node.is_draining}
        for worker in self.workers:
            if worker.node in draining and not worker.is_lost:
                worker.is_lost = True
                if not any(worker.lanes.values()):
                    ray.kill(worker.actor)
        self.workers = [w for w in self.workers if not w.is_lost or any(w.lanes.values())]

    def _admit(self, worker: _Worker) -> None:
        reference, worker.starting = worker.starting, None
        try:
            worker.name, worker.fingerprint = ray.get(reference, timeout=ANSWER_SECONDS)
            worker.began = time.monotonic()
        except (RayError, GetTimeoutError) as error:
            self.last_death = first_line(error)
            # A node that goes away takes its beginners with it: not a fault of the workers.
            if any(n.id == worker.node and not n.is_draining for n in find_nodes()):
                self.stillborn[worker.node] = self.stillborn.get(worker.node, 0) + 1
            self._drop(worker, self.last_death)

    def _hear(self, worker: _Worker) -> None:
        reference, worker.beat = worker.beat, None
        try:
            ray.get(reference, timeout=ANSWER_SECONDS)
        except (RayError, GetTimeoutError):
            self._miss(worker)

    def _settle(self, worker: _Worker, lane: Lane, reference: Any) -> Iterator[Done[Any]]:
        """Take the answer of a lane: a result, an error of the function, or a lost worker."""
        attempt = self.board.running[lane]
        worker.lanes[lane] = None
        try:
            value, seconds, name = ray.get(reference, timeout=ANSWER_SECONDS)
        except (RayActorError, GetTimeoutError) as error:
            self._miss(worker)
            ray.kill(worker.actor)  # its other lanes fail by themselves
            self._lose(lane, first_line(error))
            return
        except RayError as error:
            # What a worker meets while it is cut off says nothing about the item.
            if attempt.is_written_off:
                self._lose(lane, first_line(error))
            elif self.board.finish(lane, None) is not None:
                spent = time.monotonic() - attempt.started
                yield Done(attempt.index, None, cause(error), spent, worker.name, attempt.number)
            return
        if worker.is_lost and not any(worker.lanes.values()):
            ray.kill(worker.actor)
        index = self.board.finish(lane, seconds)
        if index is not None:
            yield Done(index, value, None, seconds, name, self.board.tries[index])

    def _drop(self, worker: _Worker, reason: str) -> None:
        log.warning("worker %s on node %s is given up: %s", worker.name, worker.node, reason)
        for lane in worker.lanes:
            self._lose(lane, reason)
        self.workers.remove(worker)
        self._miss(worker)
        ray.kill(worker.actor)

    def _miss(self, worker: _Worker) -> None:
        if not worker.is_lost:
            self.on_lost()
        worker.is_lost, self.looked = True, float("-inf")

    def _lose(self, lane: Lane, reason: str) -> None:
        ended = self.board.lose(lane, reason)
        if ended is not None:
            self.poison.append(ended)

    def _none_is_fit(self) -> RunnerError:
        if not self.refused:
            return RunnerError(f"workers die before they start: {self.last_death}")
        hosts = ", ".join(sorted(self.refused.values()))
        return RunnerError(
            f"hosts compute otherwise than the units that are finished "
            f"({(self.fingerprint or '')[:12]}): {hosts}. Nothing was published",
            "use hosts of one kind of processor and one version of torch, or begin another run",
        )

    def _none_answers(self) -> RunnerError:
        because = f"; the last one: {self.last_death}" if self.last_death else ""
        return RunnerError(
            f"no worker answered for {self.board.patience.start:g} s{because}",
            "check `ray status`: other work may hold the cluster's CPUs, or all nodes are gone",
        )
