"""Work done elsewhere: one protocol over this thread, a few threads, and Ray."""

import os
import socket
import time
from collections.abc import Callable, Generator, Mapping, Sequence
from dataclasses import dataclass
from typing import Generic, Protocol, TypeVar

Item = TypeVar("Item")
Result = TypeVar("Result")
ACCELERATOR = "accelerator_type:"


@dataclass(frozen=True, slots=True)
class Resources:
    """What one task or one worker may use.

    Attributes:
        num_cpus: logical CPUs of one task or worker.
        num_gpus: GPUs of one task or worker; may be a fraction.
        memory_bytes: bytes of memory asked of the scheduler; 0 asks for none.
        limit_seconds: wall time of an item, from its start on a host, after which it counts as
            failed; None for no limit.
        lanes: items that one worker of a pool does at a time, each on a thread with its own
            `make_worker()`.
        resident_bytes: bytes of memory that a worker of a pool takes; decides how many a node gets,
            and is not asked of the scheduler. 0 if unknown.
        most_a_node: largest number of workers of a pool on one node.
        use_head: whether the head of a cluster gets workers of a pool when there are other nodes.
        accelerator_type: accelerator that the host of a task must have, in Ray's words ("A100"); ""
            for no demand.
    """

    num_cpus: float = 1.0
    num_gpus: float = 0.0
    memory_bytes: int = 0
    limit_seconds: float | None = None
    lanes: int = 1
    resident_bytes: int = 0
    most_a_node: int = 64
    use_head: bool = False
    accelerator_type: str = ""

    @property
    def asked(self) -> dict[str, float]:
        """Resources that a host must have, by Ray's names; a type of accelerator counts 1."""
        asked = {"CPU": self.num_cpus, "GPU": self.num_gpus, "memory": float(self.memory_bytes)}
        if self.accelerator_type:
            asked[f"{ACCELERATOR}{self.accelerator_type}"] = 1.0
        return {name: amount for name, amount in asked.items() if amount}

    def fit(self, there: Mapping[str, float]) -> bool:
        """Whether a host that has so much can have one of these."""
        return all(there.get(name, 0) >= amount for name, amount in self.asked.items())

    def describe(self) -> str:
        """What is asked for, in words."""
        return ", ".join(_describe(name, amount) for name, amount in self.asked.items())

    def describe_lack(self, hosts: Sequence[Mapping[str, float]]) -> str:
        """What is asked for, and the most that there is of it on one of these hosts."""
        most = ", ".join(
            f"{name} {max((host.get(name, 0) for host in hosts), default=0):g}"
            for name in self.asked
            if not name.startswith(ACCELERATOR)
        )
        if self.accelerator_type:
            types = {n.removeprefix(ACCELERATOR) for h in hosts for n in h if ACCELERATOR in n}
            most += f", accelerator {' or '.join(sorted(types)) or 'none'}"
        return f"{self.describe()}; the most there is on one: {most}"


@dataclass(frozen=True, slots=True)
class Done(Generic[Result]):
    """How one item ended: `value`, or `error` (the exception as the function raised it).

    `tries` counts how often it was begun, because workers were lost, late or silent. A value may
    have `counts`, numbers by name, which are added to the counters of a runner that has any.
    """

    index: int
    value: Result | None
    error: Exception | None
    seconds: float
    worker: str
    tries: int = 1


class Runner(Protocol):
    """Runs picklable functions on items and yields results as they come, in any order.

    A caller that does not take all results closes the generator; items not begun are then dropped.
    """

    def run_tasks(
        self,
        function: Callable[[Item], Result],
        items: Sequence[Item],
        /,
        *,
        resources: Resources,
        workers: int,
    ) -> Generator[Done[Result], None, None]:
        """Each item once, at most `workers` at a time; a failing item does not stop the others.

        An item whose host was lost is run again; an exception of the function is not.
        """

    def run_pool(
        self,
        make_worker: Callable[[], Callable[[Item], Result]],
        items: Sequence[Item],
        /,
        *,
        resources: Resources,
        workers: int,
    ) -> Generator[Done[Result], None, None]:
        """Long-lived workers, each made once by `make_worker`, one item in flight a lane.

        Items must be safe to run twice: one on a lost or silent host is done elsewhere. An item may
        have an `effort` (its size beside the others) and a `label` (what messages call it).
        """

    def close(self) -> None:
        """Let go of the workers."""


class SerialRunner:
    """Runs everything in the calling thread, in order. Time limits are not enforced."""

    def run_tasks(
        self,
        function: Callable[[Item], Result],
        items: Sequence[Item],
        /,
        *,
        resources: Resources,
        workers: int,
    ) -> Generator[Done[Result], None, None]:
        for index, item in enumerate(items):
            yield attempt(function, index, item)

    def run_pool(
        self,
        make_worker: Callable[[], Callable[[Item], Result]],
        items: Sequence[Item],
        /,
        *,
        resources: Resources,
        workers: int,
    ) -> Generator[Done[Result], None, None]:
        if items:
            yield from self.run_tasks(make_worker(), items, resources=resources, workers=1)

    def close(self) -> None:
        pass


def this_worker() -> str:
    """How results name this process: host/process."""
    return f"{socket.gethostname()}/{os.getpid()}"


def host_of(worker: str) -> str:
    """The host in the name of a worker."""
    return worker.partition("/")[0]


def attempt(function: Callable[[Item], Result], index: int, item: Item) -> Done[Result]:
    """One item in the calling thread: how it ended, an exception of the function included."""
    started = time.monotonic()
    worker = this_worker()
    try:
        value = function(item)
    except Exception as error:  # noqa: BLE001  # a failing item must not stop the others
        return Done(index, None, error, time.monotonic() - started, worker)
    return Done(index, value, None, time.monotonic() - started, worker)


def _describe(name: str, amount: float) -> str:
    if name.startswith(ACCELERATOR):
        return f"accelerator {name.removeprefix(ACCELERATOR)}"
    return f"{name} {amount:g}"
