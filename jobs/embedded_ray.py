"""Ray, started when the first worker is needed."""

from contextlib import closing

from cluster.runner import Runner


class LazyRay:
    """Starts Ray when the first worker is needed, and stops only what it started."""

    def __init__(self, address: str | None) -> None:
        self._address = address
        self._runner: Runner | None = None

    def start(self) -> Runner:
        """The runner; Ray is started or joined at the first call."""
        if self._runner is None:
            from cluster.ray_runner import RayRunner

            self._runner = RayRunner(self._address)
        return self._runner

    def __enter__(self) -> "LazyRay":
        return self

    def __exit__(self, *_: object) -> None:
        if self._runner is not None:
            with closing(self._runner):
                self._runner = None
