"""What every step of a run shares."""

import logging
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from urllib.parse import quote

from cluster.stores.store import Store
from cluster.workers.hands import Hands
from cluster.workers.runner import Resources, Runner
from cluster.workers.threads import ThreadRunner
from fusion.checkpoints.checkpoint import Checkpoint
from jobs.console.figures import Say
from jobs.console.json_log import name_run
from jobs.evaluate.score import ScoreBook, score_all
from jobs.outputs.keys import RECIPE_KEY, SCORES
from jobs.outputs.progress_note import kept_progress
from jobs.outputs.run_folder import RunFolder
from jobs.outputs.runs import RunPlan
from jobs.recipes.recipe import Recipe
from jobs.run.attempt import Attempt, open_candidates
from jobs.run.checks import is_small
from jobs.run.freeze_slices import freeze_slices
from jobs.run.prepare import make_task
from jobs.run.request import RunRequest
from jobs.tasks.contract import EvaluationTask
from jobs.tasks.slicing import Slices

# What one merge worker moves from S3 to S3, read and written: measured 0.25 GB/s of one core.
WORKER_BITS = 2e9

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class RunContext:
    """An attempt at work: the values that every step shares.

    Attributes:
        attempt: frozen plan, and the output that the attempt belongs to.
        candidates: pinned candidates without those that the plan excludes.
        task: task with pinned data and frozen slices.
        slices: the frozen slices.
        evaluators: workers that evaluate.
        mergers: workers that merge.
        say: receives the progress of every step.
        timings: seconds by step, filled as steps end.
    """

    attempt: Attempt
    candidates: tuple[Checkpoint, ...]
    task: EvaluationTask
    slices: Slices
    evaluators: Hands
    mergers: Hands
    say: Say
    timings: dict[str, float] = field(default_factory=dict)

    @property
    def recipe(self) -> Recipe:
        """What was asked for."""
        return self.attempt.run.request.recipe

    @property
    def plan(self) -> RunPlan:
        """What was frozen."""
        return self.attempt.plan

    @property
    def store(self) -> Store:
        """The output; asks the lease before each write."""
        return self.attempt.run.store

    @property
    def folder(self) -> RunFolder:
        """Where the run writes."""
        return self.attempt.folder

    @contextmanager
    def timed(self, step: str) -> Iterator[None]:
        """Measure a step, and make sure before it that this driver may still write."""
        self.attempt.run.lease.confirm()
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
            hands=self.evaluators,
            tell=self.say.step(f"evaluate on {slice_name}"),
        )

    def keep_records(self, name: str, slice_name: str, book: ScoreBook, *, stored_as: str) -> None:
        """Copy a score file into the run's folder, so that the run is whole by itself.

        Args:
            name: name of what was scored.
            slice_name: name of the slice that it was scored on.
            book: score book that has the result.
            stored_as: first part of the file's name, before the slice.
        """
        result = book.results[name, slice_name]
        safe = quote(stored_as, safe="")
        content = self.store.read(f"{SCORES}/{result.key}")
        self.folder.keep(f"scores/{safe}-{slice_name}.parquet", content)


@contextmanager
def opened(attempt: Attempt) -> Iterator[RunContext]:
    """An attempt at work: candidates opened by their pins, workers started, progress kept.

    Raises:
        SourceChangedError: a candidate or the slices are no longer what was frozen.
    """
    plan, run = attempt.plan, attempt.run
    request = run.request
    name_run(plan.run)
    candidates = attempt.candidates or open_candidates(plan)
    task = replace(attempt.task or make_task(request.recipe, pin=plan.data), pin=plan.data)
    task, sliced = freeze_slices(attempt.folder, plan, task, attempt.slices)
    evaluators, mergers = _hire(request, candidates)
    with kept_progress(run.bare, run.lease, plan.run, request.say) as say:
        context = RunContext(attempt, candidates, task, sliced, evaluators, mergers, say)
        context.folder.keep(RECIPE_KEY, request.recipe.text.encode())
        yield context


def _hire(request: RunRequest, candidates: Sequence[Checkpoint]) -> tuple[Hands, Hands]:
    """Who evaluates and who merges. Of mergers a node gets as many as its network feeds."""
    runner, wanted = request.make_runner(), request.recipe.resources
    place = Resources(use_head=wanted.merge.on_head)
    if wanted.merge.nic_bits is not None:
        place = replace(place, most_a_node=max(1, round(wanted.merge.nic_bits / WORKER_BITS)))
    in_threads = request.is_embedded and is_small(candidates)
    merger: Runner = ThreadRunner() if in_threads else runner
    return (
        Hands(runner, request.eval_workers, wanted.evaluate.of_one),
        Hands(merger, request.merge_workers, place),
    )
