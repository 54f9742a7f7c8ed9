"""What a pool of workers does next, as plain values: no Ray, no clock of its own.

The caller says what happened and when; answers are what to hand out, what to do again and when to
give up. Workers are named by whole numbers, their nodes by strings.
"""

import statistics
from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field

from cluster.errors import RunnerError
from cluster.workers.patience import PATIENCE, Patience
from cluster.workers.runner import ACCELERATOR, Resources, host_of

MOST_A_NODE = 64
USABLE_MEMORY = 0.7


@dataclass(frozen=True, slots=True)
class Node:
    """A living node of the cluster: what it has in all, and whether it may get work."""

    id: str
    resources: Mapping[str, float]
    host: str = ""
    is_head: bool = False
    is_draining: bool = False


@dataclass(slots=True)
class Try:
    """An item under way on a lane of a worker."""

    index: int
    started: float
    number: int
    is_written_off: bool = False


Lane = tuple[int, int]


@dataclass(slots=True)
class Board:
    """The items of one run of a pool: to do, under way, finished, and how often each was tried.

    Attributes:
        efforts: relative size of each item, in the order of the items.
        labels: what messages call each item, in the order of the items.
    """

    efforts: Sequence[float]
    labels: Sequence[str]
    patience: Patience = PATIENCE
    todo: list[int] = field(default_factory=list)
    tries: dict[int, int] = field(default_factory=dict)
    finished: set[int] = field(default_factory=set)
    running: dict[Lane, Try] = field(default_factory=dict)
    paces: list[float] = field(default_factory=list)
    places: dict[int, list[str]] = field(default_factory=dict)
    reasons: dict[int, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.todo = list(reversed(range(len(self.efforts))))

    @property
    def is_done(self) -> bool:
        """Whether every item has ended."""
        return len(self.finished) == len(self.efforts)

    def deadline(self, attempt: Try) -> float:
        """Seconds an attempt may take: five times the usual for its size, doubled at every try."""
        if len(self.paces) < self.patience.samples:
            return self.patience.longest
        limit = max(self.patience.shortest, self.patience.factor * self._usual(attempt.index))
        return min(limit * 2.0 ** (attempt.number - 1), self.patience.longest)

    def take(self, lane: Lane, host: str, now: float) -> int | None:
        """The item that a free lane does next; None where nothing is left to hand out.

        Where all have been handed out, that is one that another host is slow with.
        """
        assert lane not in self.running
        while self.todo:
            index = self.todo.pop()
            if index in self.finished:
                continue
            return self._begin(index, lane, host, now)
        late = self._find_straggler(host, now)
        return None if late is None else self._begin(late, lane, host, now)

    def finish(self, lane: Lane, seconds: float | None) -> int | None:
        """A lane has answered: the item if that was the first answer for it, None if not.

        Args:
            lane: the lane that answered; it is free again.
            seconds: duration of the work; None where it failed, which says nothing about the usual
                duration.
        """
        attempt = self.running.pop(lane)
        if seconds is not None:
            self.paces.append(seconds / self.efforts[attempt.index])
        if attempt.index in self.finished:
            return None
        self.finished.add(attempt.index)
        return attempt.index

    def lose(self, lane: Lane, reason: str) -> int | None:
        """A lane is gone with its worker: its item goes back, or is returned if it is poison."""
        attempt = self.running.pop(lane, None)
        if attempt is None:
            return None
        self.reasons[attempt.index] = reason
        return None if attempt.is_written_off else self._again(attempt.index)

    def write_off(self, silent: Collection[int], now: float) -> list[int]:
        """Give up items that are late or on silent workers, so that they are done elsewhere.

        The workers that hold them may still finish: the first answer counts.

        Returns:
            Items whose last try was given up.
        """
        poison = []
        for (worker, _), attempt in self.running.items():
            limit = self.deadline(attempt)
            is_late = now - attempt.started > limit
            if attempt.is_written_off or not (worker in silent or is_late):
                continue
            attempt.is_written_off = True
            self.reasons[attempt.index] = (
                f"no answer within its limit of {limit:.0f} s"
                if is_late
                else f"its worker did not answer for {self.patience.silent:.0f} s"
            )
            ended = self._again(attempt.index)
            poison += [] if ended is None else [ended]
        return poison

    def describe_poison(self, index: int) -> RunnerError:
        """Ends the run: which item, where it was tried, why the last try failed."""
        self.finished.add(index)
        hosts = ", ".join(dict.fromkeys(self.places[index]))
        count = self.tries[index]
        return RunnerError(
            f"{self.labels[index]} lost {count} workers on {hosts}; "
            f"the last: {self.reasons[index]}. Nothing was published; finished units are kept",
            "look at these hosts (memory, disk, kernel log), then run the same command again: "
            "it goes on from the units that are finished",
        )

    def _begin(self, index: int, lane: Lane, host: str, now: float) -> int:
        number = self.tries[index] = self.tries.get(index, 0) + 1
        self.places.setdefault(index, []).append(host)
        self.running[lane] = Try(index, now, number)
        return index

    def _find_straggler(self, host: str, now: float) -> int | None:
        """The item that is latest on another host, and on no second one yet."""
        if len(self.paces) < self.patience.samples:
            return None
        late = []
        for attempt in self.running.values():
            if attempt.is_written_off:
                continue
            index = attempt.index
            limit = max(1.0, self.patience.straggler * self._usual(index))
            is_elsewhere = host_of(host) != host_of(self.places[index][-1])
            is_open = index not in self.finished and self.tries[index] < self.patience.tries
            if (
                is_open
                and is_elsewhere
                and now - attempt.started > limit
                and self._copies(index) == 1
            ):
                late.append((attempt.started, index))
        return min(late)[1] if late else None

    def _usual(self, index: int) -> float:
        """Seconds that an item of this size usually takes."""
        return statistics.median(self.paces[-50:]) * self.efforts[index]

    def _copies(self, index: int) -> int:
        """Attempts at an item that are not given up."""
        return sum(a.index == index and not a.is_written_off for a in self.running.values())

    def _again(self, index: int) -> int | None:
        if index in self.finished or index in self.todo or self._copies(index):
            return None
        if self.tries[index] >= self.patience.tries:
            return index
        self.todo.append(index)
        return None


def find_room(nodes: Sequence[Node], resources: Resources) -> dict[str, int]:
    """Workers that each node can have, by what it has in all; nodes without room are left out.

    The head runs the driver and the cluster's own services, so it gets no workers as long as
    another node has room. A node that is being drained gets none.
    """
    room = {node.id: _count(node, resources) for node in nodes if not node.is_draining}
    room = {name: count for name, count in room.items() if count}
    heads = {node.id for node in nodes if node.is_head}
    others = {name: count for name, count in room.items() if name not in heads}
    return room if resources.use_head or not others else others


def _count(node: Node, resources: Resources) -> int:
    if not resources.fit(node.resources):
        return 0
    share, asked = resources.num_gpus, resources.asked
    # A type of accelerator is there or not, however many there are.
    counts = [
        int(node.resources[name] // amount)
        for name, amount in asked.items()
        if not name.startswith(ACCELERATOR) and not (name == "GPU" and share < 1)
    ]
    if 0 < share < 1:
        # Shares of one worker are on one GPU: two of 0.6 need two GPUs.
        counts.append(int(1 / share + 1e-9) * int(node.resources["GPU"]))
    if resources.resident_bytes and node.resources.get("memory"):
        fitting = USABLE_MEMORY * node.resources["memory"] // resources.resident_bytes
        # A node that is too small for one still has the bounds that the worker keeps by itself.
        counts.append(max(1, int(fitting)))
    return min([*counts, resources.most_a_node, MOST_A_NODE])


def usual_fingerprint(answers: Collection[tuple[str, str]]) -> str:
    """How most hosts compute, of (host, fingerprint): a host counts once, equal counts by name."""
    counts = Counter(fingerprint for _, fingerprint in set(answers))
    return min(counts, key=lambda text: (-counts[text], text), default="")


def choose_nodes(room: Mapping[str, int], load: Mapping[str, int], wanted: int) -> list[str]:
    """Nodes for up to `wanted` more workers, one entry each: the emptiest first, none overfull."""
    counts = {name: load.get(name, 0) for name in room}
    chosen: list[str] = []
    while len(chosen) < wanted:
        free = [name for name in room if counts[name] < room[name]]
        if not free:
            break
        name = min(free, key=lambda name: (counts[name], name))
        counts[name] += 1
        chosen.append(name)
    return chosen
