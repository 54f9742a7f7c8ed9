"""Work done elsewhere: one protocol over this thread, a few threads, and Ray."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Generic, Protocol, TypeVar

Item = TypeVar("Item")
Result = TypeVar("Result")


@dataclass(frozen=True, slots=True)
class Resources:
    """What one task or one worker may use.

    Attributes:
        num_cpus: logical CPUs.
        num_gpus: may be a fraction.
        memory_bytes: asked of the scheduler; 0 asks for nothing.
        limit_seconds: wall time after which the item counts as failed; None: no limit.
    """

    num_cpus: float = 1.0
    num_gpus: float = 0.0
    memory_bytes: int = 0
    limit_seconds: float | None = None


@dataclass(frozen=True, slots=True)
class Done(Generic[Result]):
    """How one item ended: `value`, or `error` (the exception as the function raised it)."""

    index: int
    value: Result | None
    error: Exception | None
    seconds: float
    worker: str


class Runner(Protocol):
    """Runs picklable functions on items and yields results as they come, in any order."""

    def run_tasks(
        self,
        function: Callable[[Item], Result],
        items: Sequence[Item],
        /,
        *,
        resources: Resources,
        workers: int,
    ) -> Iterator[Done[Result]]:
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
    ) -> Iterator[Done[Result]]:
        """Long-lived workers, each made once by `make_worker`, one item in flight each.

        Items must be safe to run twice: one on a lost or silent host is done elsewhere.
        """

    def close(self) -> None:
        """Let go of the workers."""
