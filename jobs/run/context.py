"""What every step of a run shares."""

import logging
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from urllib.parse import quote

from cluster.stores.store import Store
from cluster.workers.runner import Resources, Runner
from fusion.checkpoints.checkpoint import Checkpoint
from jobs.console.figures import Say
from jobs.evaluate.score import ScoreBook, score_all
from jobs.outputs.lease import Lease
from jobs.outputs.puts import keep_first
from jobs.outputs.runs import RunPlan
from jobs.recipes.recipe import Recipe
from jobs.tasks.contract import EvaluationTask

SCORES = "scores"

log = logging.getLogger(__name__)
# What one merge worker moves from S3 to S3, read and written: measured 0.25 GB/s of one core.
WORKER_BITS = 2e9


@dataclass(frozen=True, slots=True)
class RunContext:
    """A run in progress.

    Attributes:
        recipe: what was asked for.
        plan: what was frozen.
        store: of the output.
        candidates: pinned, without those that the plan excludes.
        task: with pinned data.
        runner: where work is done.
        workers: evaluations at a time.
        lease: held.
        say: progress.
        notes: what the report has to say about the store.
        timings: seconds by step, filled as steps end.
    """

    recipe: Recipe
    plan: RunPlan
    store: Store
    candidates: tuple[Checkpoint, ...]
    task: EvaluationTask
    runner: Runner
    workers: int
    lease: Lease
    say: Say
    notes: tuple[str, ...] = ()
    timings: dict[str, float] = field(default_factory=dict)

    @property
    def folder(self) -> str:
        """Key of the run's folder."""
        return f"runs/{self.plan.run}"

    @contextmanager
    def timed(self, step: str) -> Iterator[None]:
        """Measure a step, and make sure before it that this driver may still write."""
        self.lease.confirm()
        started = time.monotonic()
        try:
            yield
        finally:
            seconds = time.monotonic() - started
            self.timings[step] = self.timings.get(step, 0.0) + seconds
            log.info("step ended", extra={"step": step, "seconds": round(seconds, 3)})

    def score(self, checkpoints: Sequence[Checkpoint], slice_name: str) -> ScoreBook:
        """Score checkpoints on one slice and keep the records in the run's folder."""
        return score_all(
            checkpoints,
            [slice_name],
            self.task,
            cache=f"{self.store.uri}/{SCORES}",
            runner=self.runner,
            resources=self.recipe.resources.evaluate.of_one,
            workers=self.workers,
            on_done=lambda name, _, done, total, figures: self.say(
                f"evaluate on {slice_name}", done, total, name, figures
            ),
        )

    def merge_resources(self) -> Resources:
        """Where workers of the merge may be: as many a node as its network feeds."""
        wanted = self.recipe.resources.merge
        if wanted.nic_bits is None:
            return Resources(use_head=wanted.on_head)
        most = max(1, round(wanted.nic_bits / WORKER_BITS))
        return Resources(use_head=wanted.on_head, most_a_node=most)

    def keep_records(self, name: str, slice_name: str, book: ScoreBook, *, stored_as: str) -> None:
        """Copy a score file into the run's folder, so that the run is whole by itself.

        Args:
            name: of what was scored.
            slice_name: on which slice.
            book: has the result.
            stored_as: what the file is called, before the slice.
        """
        result = book.results[name, slice_name]
        safe = quote(stored_as, safe="")
        content = self.store.read(f"{SCORES}/{result.key}")
        keep_first(self.store, f"{self.folder}/scores/{safe}-{slice_name}.parquet", content)
