"""What a run is asked, and how it ended."""

import time
from collections.abc import Callable
from dataclasses import dataclass

from cluster.workers.patience import PATIENCE, Patience
from cluster.workers.runner import Runner
from fusion.manifests.report import PublishedFigure, RunReport
from jobs.console.figures import Say
from jobs.outputs.runs import (
    Outcome,
)
from jobs.recipes.recipe import Recipe


@dataclass(frozen=True, slots=True)
class RunRequest:
    """What to run, for which date, and where.

    Attributes:
        recipe: recipe to run.
        logical_date: logical date of the run: YYYY-MM-DD, or with a time.
        make_runner: gives the workers; called only when there may be work.
        eval_workers: number of evaluations at a time.
        merge_workers: number of merge workers.
        say: receives the progress of every step.
        is_embedded: whether all workers are on this machine, so that small merges need none.
        clock: gives the current time in seconds since 1970.
        published: figures from elsewhere, for the report.
        patience: how long to wait for the lease and its holder.
    """

    recipe: Recipe
    logical_date: str
    make_runner: Callable[[], Runner]
    eval_workers: int
    merge_workers: int
    say: Say
    is_embedded: bool = False
    clock: Callable[[], float] = time.time
    published: tuple[PublishedFigure, ...] = ()
    patience: Patience = PATIENCE


@dataclass(frozen=True, slots=True)
class RunResult:
    """How a run ended. `report` is None when there was nothing to do."""

    run: str
    outcome: Outcome
    exit_status: int
    output: str
    report: RunReport | None
