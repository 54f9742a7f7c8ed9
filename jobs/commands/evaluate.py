"""`metafuse evaluate`: scores alone, nothing merged or kept."""

import math
import tempfile
import time
from collections.abc import Sequence
from contextlib import closing
from dataclasses import asdict, replace
from pathlib import Path

from cluster.stores.open_store import open_store
from cluster.workers.hands import Hands
from fusion.nearest import ask_meant
from fusion.scores.contract import TaskSpec, score
from fusion.scores.records import Score
from fusion.scores.slices import SLICES
from jobs.candidates.find import Found, find_candidates
from jobs.candidates.skipped import explain
from jobs.console.show import Progress, show, show_json, show_table
from jobs.errors import DataError, UsageError
from jobs.evaluate.score import ScoreBook, score_all
from jobs.exits import TOO_FEW
from jobs.recipes.recipe import Recipe, load_recipe
from jobs.run.embedded_ray import LazyRay, most_at_a_time
from jobs.run.prepare import make_task
from jobs.tasks.contract import EvaluationTask
from jobs.tasks.data import REPEATED
from jobs.tasks.examples import load_examples
from jobs.tasks.find_task import find_task
from jobs.tasks.slicing import keep_slices, name_slices


def run_evaluate(
    uris: Sequence[str], path: Path, *, slice_name: str, address: str | None, as_json: bool
) -> int:
    """Score checkpoints on one slice of a recipe's task and show a table, best first."""
    if slice_name not in SLICES:
        meant = ask_meant(slice_name, SLICES)
        raise UsageError(f"--slice {slice_name}: expected one of {', '.join(SLICES)}{meant}")
    recipe = load_recipe(path)
    found = find_candidates(uris, settle_seconds=0, now=time.time(), base=recipe.base)
    progress = Progress(is_quiet=as_json)
    try:
        book = _score(recipe, found, slice_name, address, progress)
    finally:
        progress.close()
    spec = find_task(recipe.task.kind).spec
    scores = [
        score(records, spec.metrics, name=name, slice=part)
        for (name, part), records in book.records.items()
    ]
    scores.sort(key=lambda entry: entry.loss)
    failures = [(f.name, f.code, f.message) for f in book.failures]
    failures += [(s.name, s.code, explain(s)) for s in found.skipped]
    if as_json:
        lost = [dict(zip(("name", "code", "message"), entry, strict=True)) for entry in failures]
        show_json({"scores": [_plain(entry) for entry in scores], "failures": lost})
    else:
        _show(scores, failures, spec)
    return TOO_FEW if failures else 0


def slice_data(task: EvaluationTask, slice_name: str, folder: str) -> EvaluationTask:
    """Read the data, so that a slice without examples is known before anything is paid for.

    Args:
        task: task with pinned data.
        slice_name: name of the slice that will be scored.
        folder: folder that holds the slices for all evaluations.

    Returns:
        The task with its slices.

    Raises:
        DataError: the slice has no examples, or the data cannot be read.
    """
    sliced = load_examples(task).sliced
    if not sliced.counts.get(slice_name):
        share = task.shares[slice_name]
        repeated = {"rank": sliced.repeated_rank, "select": sliced.repeated_select}.get(slice_name)
        left = f"; {repeated} nearly repeat one of another slice" if repeated else ""
        raise DataError(
            f"{task.data}: no example is in slice {slice_name}, whose share is {share:g}{left}; "
            "nothing was evaluated",
            REPEATED
            if repeated
            else f"give task.slices.{slice_name} a share, or name another --slice",
        )
    store = open_store(folder)
    content = keep_slices(store, "slices", sliced)
    return replace(task, slices=name_slices(store, "slices", content, digest=sliced.digest))


def format_error(value: float) -> str:
    """A standard error; that of a single cluster is not known."""
    return "unknown" if math.isnan(value) else f"{value:.4f}"


def _score(
    recipe: Recipe,
    found: Found,
    slice_name: str,
    address: str | None,
    progress: Progress,
) -> ScoreBook:
    wanted = recipe.resources.evaluate
    with (
        tempfile.TemporaryDirectory(prefix="metafuse-") as cache,
        closing(LazyRay(address, progress)) as ray,
    ):
        return score_all(
            found.candidates,
            [slice_name],
            slice_data(make_task(recipe), slice_name, cache),
            cache=cache,
            hands=Hands(ray, wanted.workers or most_at_a_time(address), wanted.of_one),
            tell=progress.step("evaluate"),
        )


def _plain(entry: Score) -> dict[str, object]:
    """A score as one object: the metrics stand beside the loss."""
    plain = asdict(entry)
    metrics = plain.pop("metrics")
    return {**plain, **metrics}


def _show(
    scores: Sequence[Score], failures: Sequence[tuple[str, str, str]], spec: TaskSpec
) -> None:
    titles = [spec.metrics[name].title for name in spec.shown]
    head = ["checkpoint", "loss", "+-", *titles, "examples"]
    rows = [
        [
            entry.name,
            f"{entry.loss:.4f}",
            format_error(entry.loss_error),
            *(f"{entry.metrics[name]:.4f}" for name in spec.shown),
            str(entry.num_examples),
        ]
        for entry in scores
    ]
    show_table(head, rows)
    for name, code, message in failures:
        show(f"  {name}: {code} {message}")
