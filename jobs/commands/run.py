"""What each verb of the command line does, in order."""

import logging
import shlex
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import closing
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

from cluster.stores.open_store import open_store
from fusion.manifests.model import describe_checks
from fusion.manifests.report import PublishedFigure, RunReport
from jobs.candidates.doubts import describe_left_behind, find_doubts
from jobs.candidates.skipped import describe_skipped
from jobs.console.show import Progress, quote_spaces, show, show_json, show_under, warn
from jobs.errors import OutputError, UsageError
from jobs.exits import NOTHING_NEW
from jobs.merge.libraries import start_measuring
from jobs.notify.follow_up import follow_up
from jobs.notify.notify import look_at_webhook
from jobs.outputs.open_output import look_at_output
from jobs.outputs.pointer import read_pointer
from jobs.recipes.blocks import Select
from jobs.recipes.recipe import Recipe, load_recipe, unattended
from jobs.report.advice import advise, advise_unchanged
from jobs.report.data_lines import describe_survey
from jobs.report.pages import BADGES, format_seconds
from jobs.report.table import show_report_table
from jobs.run.checks import check_output
from jobs.run.cost import RunCost, plan_run
from jobs.run.embedded_ray import LazyRay, most_at_a_time
from jobs.run.prepare import Prepared, prepare
from jobs.run.survey import survey

if TYPE_CHECKING:
    from jobs.run.request import RunResult

GB = 1e9


log = logging.getLogger(__name__)


def show_plan(path: Path, *, as_json: bool) -> int:
    """`metafuse plan`."""
    recipe = load_recipe(path)
    check_output(recipe)
    prepared = prepare(recipe, clock=time.time)
    start_measuring(with_ray=True)
    promotion = look_at_output(recipe.output, single_writer=recipe.single_writer)
    webhook = look_at_webhook(recipe)
    seen = survey(prepared.candidates[0], prepared.examples, prepared.task)
    cost = plan_run(recipe, prepared)
    if as_json:
        skipped = [asdict(entry) for entry in prepared.skipped]
        show_json({"recipe": recipe.name, **asdict(cost), "skipped": skipped, "data": asdict(seen),
                   "promotion": promotion, "notify": webhook})  # fmt: skip
        return 0
    _show_cost(recipe, prepared, cost)
    for name, text in describe_survey(seen):
        show(f"  {name:10} {text}")
    show(f"  promotion  {promotion}")
    if recipe.notify is not None:
        show(f"  notify     {webhook}")
    return 0


def run_main(
    path: Path,
    *,
    logical_date: str | None,
    address: str | None,
    is_unattended: bool,
    as_json: bool,
) -> int:
    """`metafuse run`."""
    date = logical_date or datetime.now(UTC).date().isoformat()
    recipe = unattended(load_recipe(path)) if is_unattended else load_recipe(path)
    return run_loaded(recipe, date, address=address, as_json=as_json, published=())


def run_loaded(
    recipe: Recipe,
    logical_date: str,
    *,
    address: str | None,
    as_json: bool,
    published: tuple[PublishedFigure, ...],
) -> int:
    """Run a recipe and show how it ended; returns the exit status."""
    from jobs.run.pipeline import run_recipe
    from jobs.run.request import RunRequest

    check_date(logical_date)
    progress = Progress(is_quiet=as_json)
    most, workers = most_at_a_time(address), recipe.resources
    with closing(LazyRay(address, progress)) as ray:
        request = RunRequest(
            recipe=recipe,
            logical_date=logical_date,
            make_runner=lambda: ray,
            is_embedded=address is None,
            eval_workers=workers.evaluate.workers or most,
            merge_workers=workers.merge.workers or most,
            say=progress,
            published=published,
        )
        try:
            result = run_recipe(request)
        except Exception as error:
            follow_up(recipe, logical_date, error)
            raise
        finally:
            progress.close()
    status, outcome = result.exit_status, result.outcome
    log.info("run ended", extra={"outcome": outcome.result, "exit_status": status})
    follow_up(recipe, logical_date, result)
    _show_result(result.run, asdict(outcome), result.report, result.output, as_json=as_json,
                 status=status)  # fmt: skip
    for what, command in () if as_json else find_commands(recipe, result):
        show(f"next     {command}   # {what}")
    return status


def run_demo(folder: Path | None, *, seed: int, as_json: bool) -> int:
    """`metafuse demo`: exits 0 whatever the verdict."""
    from jobs.demo.demo import PUBLISHED, prepare_demo

    started = time.monotonic()
    place = folder or Path(tempfile.mkdtemp(prefix="metafuse-demo-"))
    if place.exists() and any(place.iterdir()):
        raise OutputError(f"{place} is not empty; nothing was written", "name a new folder")
    progress = Progress(is_quiet=as_json)
    recipe = prepare_demo(
        place,
        seed=seed,
        tell=progress.step("train"),
    )
    progress.close()
    date = datetime.now(UTC).date().isoformat()
    run_loaded(load_recipe(recipe), date, address=None, as_json=as_json, published=PUBLISHED)
    if not as_json:
        name = shlex.quote(str(recipe))
        show(f"next     metafuse run {name}   # nothing new: exit status 3")
        show(f"next     metafuse plan {name}   # what it reads, writes and costs")
        show(f"{time.monotonic() - started:.0f} s in all")
    return 0


def find_commands(recipe: Recipe, result: "RunResult") -> tuple[tuple[str, str], ...]:
    """(purpose, command) of each command that works after a run, whatever became of its model."""
    from jobs.run.report_value import find_place

    has_promoted = read_pointer(open_store(result.output)) is not None
    if result.report is None:
        return advise_unchanged(result.output, has_promoted=has_promoted)
    place = find_place(recipe, result.output, run=result.run, model=result.report.model)
    is_taken = result.outcome.result == "promoted"
    return advise(place, is_taken=is_taken, has_promoted=has_promoted)


def check_date(text: str) -> None:
    """Refuse a logical date that does not sort as text.

    Raises:
        UsageError: not YYYY-MM-DD, or YYYY-MM-DDTHHMMZ.
    """
    for pattern in ("%Y-%m-%d", "%Y-%m-%dT%H%MZ"):
        try:
            if datetime.strptime(text, pattern).strftime(pattern) == text:  # noqa: DTZ007  # a label
                return
        except ValueError:
            continue
    raise UsageError(
        f"--date {text}: expected YYYY-MM-DD or YYYY-MM-DDTHHMMZ; nothing was done",
        "write it like --date 2024-06-01",
    )


def _show_cost(recipe: Recipe, prepared: Prepared, cost: RunCost) -> None:
    size = f"{cost.num_parameters:,} parameters"
    show(f"plan {recipe.name}  {cost.num_candidates} candidates of {size}")
    for line in _describe_selection(recipe.select, cost.num_candidates):
        show(f"  select     {line}")
    show(f"  evaluate   read {cost.evaluate_bytes / GB:.3f} GB for the rank and gate slices")
    show(
        f"  merge      {cost.num_tensors} tensors, {recipe.merge.method}, {cost.dtype}; read "
        f"{cost.read_bytes / GB:.3f} GB, write {cost.write_bytes / GB:.3f} GB "
        f"({', '.join(recipe.baselines) or 'no'} baseline included)"
    )
    requests = f"{cost.num_gets:,} reads, {cost.num_puts:,} writes"
    show(f"  on S3      {requests} = ${cost.dollars:.4f}; kept ${cost.month_dollars:.4f} a month")
    show(
        f"  memory     {cost.merge_memory_bytes / 2**20:.0f} MiB a process that merges, "
        f"about {cost.evaluate_memory_bytes / 2**20:.0f} MiB an evaluation"
    )
    show(
        f"  disk       {cost.evaluate_disk_bytes / 2**20:.1f} MiB an evaluation: config and "
        "tokenizer; tensors are not copied"
    )
    show(
        f"  time       about {format_seconds(cost.evaluate_seconds)} to evaluate, "
        f"{format_seconds(cost.merge_seconds)} to merge; a faster or slower machine changes that"
    )
    show(f"  sources    {describe_checks(cost.num_checked, cost.num_sources)}")
    show(f"  plan id    {cost.plan[:12]} with equal weights")
    first = prepared.candidates[0]
    donor = first if first.adapter is None else first.adapter.base
    lines = (*find_doubts(prepared.candidates), describe_left_behind(donor.left_behind))
    for line in (*lines, *prepared.remarks):
        if line:
            warn(line)
    for candidate in prepared.candidates:
        show(f"  use        {quote_spaces(candidate.name)}")
    for entry in prepared.skipped:
        show_under(f"  skip       {quote_spaces(entry.name)}: ", describe_skipped(entry))


def _describe_selection(select: Select, count: int) -> Iterator[str]:
    """How the recipe's numbers were read, where they may have been meant otherwise."""
    if select.keep is not None and select.keep > count:
        yield f"all {count}: keep: {select.keep} asks for more than there are"
    if select.settle_seconds:
        yield f"only what is settled: unchanged for {select.settle_seconds:g} s"


def _show_result(
    run: str,
    outcome: Mapping[str, object],
    report: RunReport | None,
    output: str,
    *,
    as_json: bool,
    status: int,
) -> None:
    is_same = outcome["result"] == "nothing_new"
    place = None if is_same else f"{output}/runs/{run}/report.html"
    if as_json:
        verdict = report.verdict.decision if report else None
        show_json({"run": run, "verdict": verdict, "report": place, "output": output,
                   **outcome, "exit_status": status})  # fmt: skip
        return
    if is_same:
        show(f"{run}: nothing new: {outcome['reason']}")
        return
    if report is None:
        state = "nothing new" if status == NOTHING_NEW else outcome["reason"]
        show(f"{run}: {state}; it ended as {outcome['result']}. Report: {place}")
        return
    show_report_table(report)
    show(f"\n{BADGES[report.verdict.decision]}  {report.headline}")
    if outcome["reason"] != report.verdict.sentence:
        show(f"{outcome['result']}: {outcome['reason']}")
    show(f"report   {place}")
