"""Ray, started when the first worker is needed."""

import os
from contextlib import closing

from cluster.workers.runner import Runner
from jobs.console.figures import Figures, Say

MOST_WORKERS = 4096


class LazyRay:
    """Starts Ray when the first worker is needed, and stops only what it started.

    `say` hears of the start with a step, how much of it is done, of how much, and a detail.
    """

    def __init__(self, address: str | None, say: Say) -> None:
        self._address = address
        self._say = say
        self._runner: Runner | None = None

    def start(self) -> Runner:
        """The runner; Ray is started or joined at the first call."""
        if self._runner is None:
            step = "starting Ray" if self._address is None else "joining Ray"
            tell = self._say.step(step)
            tell(0, 1, Figures(unit=self._address or "on this machine"))
            from cluster.ray.runner import RayRunner

            self._runner = RayRunner(self._address)
            tell(1, 1, Figures())
        return self._runner

    def __enter__(self) -> "LazyRay":
        return self

    def __exit__(self, *_: object) -> None:
        if self._runner is not None:
            with closing(self._runner):
                self._runner = None


def most_at_a_time(address: str | None) -> int:
    """Workers where a recipe does not say: on a cluster as many as there is room for."""
    return MOST_WORKERS if address else os.cpu_count() or 1
