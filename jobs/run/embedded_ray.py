"""Ray, started when the first worker is needed."""

import os
from collections.abc import Callable, Generator, Sequence
from contextlib import closing

from cluster.workers.runner import Done, Item, Resources, Result, Runner
from jobs.console.figures import Figures, Say

MOST_WORKERS = 4096


class LazyRay:
    """A runner that starts or joins Ray for its first item, and stops only what it started.

    `say` hears of the start with a step, how much of it is done, of how much, and a detail.
    """

    def __init__(self, address: str | None, say: Say) -> None:
        self._address = address
        self._say = say
        self._runner: Runner | None = None

    def run_tasks(
        self,
        function: Callable[[Item], Result],
        items: Sequence[Item],
        /,
        *,
        resources: Resources,
        workers: int,
    ) -> Generator[Done[Result], None, None]:
        """As `Runner` has it; without an item nothing is started."""
        if items:
            yield from self._start().run_tasks(
                function, items, resources=resources, workers=workers
            )

    def run_pool(
        self,
        make_worker: Callable[[], Callable[[Item], Result]],
        items: Sequence[Item],
        /,
        *,
        resources: Resources,
        workers: int,
    ) -> Generator[Done[Result], None, None]:
        """As `Runner` has it; without an item nothing is started."""
        if items:
            yield from self._start().run_pool(
                make_worker, items, resources=resources, workers=workers
            )

    def close(self) -> None:
        """Let go of the workers, and of the Ray that was started here."""
        if self._runner is not None:
            with closing(self._runner):
                self._runner = None

    def _start(self) -> Runner:
        if self._runner is None:
            step = "starting Ray" if self._address is None else "joining Ray"
            tell = self._say.step(step)
            tell(0, 1, Figures(unit=self._address or "on this machine"))
            from cluster.ray.runner import RayRunner

            self._runner = RayRunner(self._address)
            tell(1, 1, Figures())
        return self._runner


def most_at_a_time(address: str | None) -> int:
    """Workers where a recipe does not say: on a cluster as many as there is room for."""
    return MOST_WORKERS if address else os.cpu_count() or 1
