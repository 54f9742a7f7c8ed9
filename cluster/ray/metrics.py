"""Counters on the metrics port of a Ray node, `ray_metafuse_..._total` there.

They are the driver's: what a worker did counts once its result has arrived.
"""

from collections.abc import Generator, Mapping
from contextlib import closing

from ray.util.metrics import Counter

from cluster.workers.runner import Done, Result

COUNTERS = {
    "units": "Units of merges that are done.",
    "read_bytes": "Bytes of sources that these units read.",
    "written_bytes": "Bytes that these units wrote.",
    "evaluations": "Checkpoints that were scored on a slice.",
    "retries": "Tries of units beyond the first.",
    "failures": "Units and evaluations that ended in an error.",
    "lost_workers": "Workers of a pool that died, fell silent or did not start.",
}


class Metrics:
    """The counters of one runner."""

    def __init__(self) -> None:
        self._counters = {
            name: Counter(f"metafuse_{name}", description=text) for name, text in COUNTERS.items()
        }

    def count(self, name: str, amount: float = 1) -> None:
        """Add to a counter; names that are none of ours are left out."""
        if amount > 0 and name in self._counters:
            self._counters[name].inc(amount)

    def count_lost_worker(self) -> None:
        """One worker of a pool is given up."""
        self.count("lost_workers")

    def counted(
        self, results: Generator[Done[Result], None, None]
    ) -> Generator[Done[Result], None, None]:
        """The same results, each counted as it arrives; closing closes what makes them.

        A value may have `counts`, numbers by name of a counter.
        """
        with closing(results):
            for done in results:
                counts: Mapping[str, float] = getattr(done.value, "counts", {})
                for name, amount in counts.items():
                    self.count(name, amount)
                self.count("retries", done.tries - 1)
                self.count("failures", done.error is not None)
                yield done
