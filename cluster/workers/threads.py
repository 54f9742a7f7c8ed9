"""Work on threads of this process, each item with a deadline."""

import queue
import threading
import time
from collections.abc import Callable, Generator, Sequence
from dataclasses import dataclass, field
from typing import Any

from cluster.errors import RunnerError
from cluster.workers.board import Board, Try
from cluster.workers.patience import PATIENCE, Patience
from cluster.workers.runner import Done, Item, Resources, Result, attempt, this_worker


class ThreadRunner:
    """Runs on threads of this process.

    Good for work that lets go of the interpreter: large reads, writes, tensor arithmetic. A thread
    cannot be stopped: one that is over its item's deadline is left to itself, and is no reason for
    the process to stay.
    """

    def __init__(self, *, patience: Patience = PATIENCE) -> None:
        self._patience = patience

    def run_tasks(
        self,
        function: Callable[[Item], Result],
        items: Sequence[Item],
        /,
        *,
        resources: Resources,
        workers: int,
    ) -> Generator[Done[Result], None, None]:
        return self.run_pool(lambda: function, items, resources=resources, workers=workers)

    def run_pool(
        self,
        make_worker: Callable[[], Callable[[Item], Result]],
        items: Sequence[Item],
        /,
        *,
        resources: Resources,
        workers: int,
    ) -> Generator[Done[Result], None, None]:
        crew = _Crew(make_worker, items, self._patience)
        threads = min(max(1, workers * resources.lanes), len(items))
        try:
            crew.start(threads)
            while not crew.board.is_done:
                yield from crew.collect()
        finally:
            # Closed early or interrupted: what has not begun is dropped, what runs is awaited.
            crew.leave()

    def close(self) -> None:
        pass


@dataclass
class _Crew:
    make_worker: Callable[[], Callable[[Any], Any]]
    items: Sequence[Any]
    patience: Patience
    begun: dict[int, tuple[float, threading.Thread]] = field(default_factory=dict)
    threads: list[threading.Thread] = field(default_factory=list)
    todo: queue.SimpleQueue[int] = field(default_factory=queue.SimpleQueue)
    answers: queue.SimpleQueue[Done[Any] | BaseException] = field(default_factory=queue.SimpleQueue)
    has_left: threading.Event = field(default_factory=threading.Event)

    def __post_init__(self) -> None:
        efforts = [float(getattr(item, "effort", 1.0)) for item in self.items]
        labels = [str(getattr(item, "label", f"item {n}")) for n, item in enumerate(self.items)]
        self.board = Board(efforts, labels, self.patience)

    def start(self, count: int) -> None:
        """Start the threads."""
        for index in range(len(self.items)):
            self.todo.put(index)
        for number in range(count):
            thread = threading.Thread(target=self._work, name=f"worker {number}", daemon=True)
            self.threads.append(thread)
            thread.start()

    def collect(self) -> Generator[Done[Any], None, None]:
        """The next answer, or the items that are over their deadlines."""
        try:
            answer = self.answers.get(timeout=self.patience.poll)
        except queue.Empty:
            yield from self._find_late(time.monotonic())
            return
        if isinstance(answer, BaseException):
            raise answer
        self.begun.pop(answer.index, None)
        if answer.index not in self.board.finished:
            self.board.finished.add(answer.index)
            if answer.error is None:
                self.board.paces.append(answer.seconds / self.board.efforts[answer.index])
            yield answer

    def leave(self) -> None:
        """Hand out nothing more, and wait for all threads that are not late."""
        self.has_left.set()
        late = {thread for i, (_, thread) in self.begun.items() if i in self.board.finished}
        for thread in self.threads:
            if thread not in late:
                thread.join()

    def _work(self) -> None:
        worker = None
        while not self.has_left.is_set():
            try:
                index = self.todo.get_nowait()
            except queue.Empty:
                return
            self.begun[index] = time.monotonic(), threading.current_thread()
            try:
                worker = worker or self.make_worker()
                self.answers.put(attempt(worker, index, self.items[index]))
            except BaseException as error:  # noqa: BLE001  # raised where the results are awaited
                self.answers.put(error)
                return

    def _find_late(self, now: float) -> Generator[Done[Any], None, None]:
        for index, (began, _) in list(self.begun.items()):
            # That of a last try: an outage of a minute is waited for inside an item.
            limit = self.board.deadline(Try(index, began, self.patience.tries))
            if index not in self.board.finished and now - began > limit:
                self.board.finished.add(index)
                yield Done(index, None, self._describe(index, limit), now - began, this_worker())

    def _describe(self, index: int, limit: float) -> RunnerError:
        return RunnerError(
            f"{self.board.labels[index]} took longer than {limit:g} s, far longer than the others; "
            "nothing was published",
            "look at the store it reads and writes; the same command continues",
        )
