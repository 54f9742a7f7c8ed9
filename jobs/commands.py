"""What each verb of the command line does, in order."""

import logging
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path

from cluster.errors import NotFoundError
from cluster.store import open_store
from fusion.manifest import PublishedFigure, RunReport
from jobs.adapters import find_doubts
from jobs.afterwards import follow_up
from jobs.console import Progress, show, show_json, warn
from jobs.cost import RunCost, plan_run
from jobs.embedded_ray import LazyRay, most_at_a_time
from jobs.errors import IncompleteError, NoCandidatesError, OutputError, UsageError
from jobs.notify import look_at_webhook
from jobs.output_store import look_at_output
from jobs.preparation import Prepared, prepare
from jobs.recipe import Recipe, load_recipe, unattended
from jobs.report import BADGES, format_seconds
from jobs.report_table import show_report_table

GB = 1e9


log = logging.getLogger(__name__)


def show_plan(path: Path, *, as_json: bool) -> int:
    """`metafuse plan`."""
    recipe = load_recipe(path)
    prepared = prepare(recipe, clock=time.time)
    cost = plan_run(recipe, prepared)
    promotion = look_at_output(recipe.output, single_writer=recipe.single_writer)
    webhook = look_at_webhook(recipe)
    if as_json:
        skipped = [asdict(entry) for entry in prepared.skipped]
        show_json({"recipe": recipe.name, **asdict(cost), "skipped": skipped,
                   "promotion": promotion, "notify": webhook})  # fmt: skip
        return 0
    _show_cost(recipe, prepared, cost)
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
    from jobs.pipeline import RunRequest, run_recipe

    check_date(logical_date)
    progress = Progress(is_quiet=as_json)
    most = most_at_a_time(address)
    with LazyRay(address, progress.say) as ray:
        request = RunRequest(
            recipe=recipe,
            logical_date=logical_date,
            make_runner=ray.start,
            eval_workers=recipe.resources.evaluate.workers or most,
            merge_workers=recipe.resources.merge.workers or most,
            say=progress.say,
            published=published,
        )
        try:
            result = run_recipe(request)
        except Exception as error:
            follow_up(recipe, logical_date, error)
            raise
        finally:
            progress.close()
    ended = {"outcome": result.outcome.result, "exit_status": result.exit_status}
    log.info("run ended", extra=ended)
    follow_up(recipe, logical_date, result)
    _show_result(result.run, asdict(result.outcome), result.report, result.output, as_json=as_json,
                 status=result.exit_status)  # fmt: skip
    return result.exit_status


def run_demo(folder: Path | None, *, seed: int, as_json: bool) -> int:
    """`metafuse demo`: exits 0 whatever the verdict."""
    from jobs.demo import PUBLISHED, prepare_demo

    started = time.monotonic()
    place = folder or Path(tempfile.mkdtemp(prefix="metafuse-demo-"))
    if place.exists() and any(place.iterdir()):
        raise OutputError(f"{place} is not empty; nothing was written", "name a new folder")
    progress = Progress(is_quiet=as_json)
    recipe = prepare_demo(
        place,
        seed=seed,
        on_progress=lambda what, done, total: progress.say("train", done, total, what),
    )
    progress.close()
    date = datetime.now(UTC).date().isoformat()
    run_loaded(load_recipe(recipe), date, address=None, as_json=as_json, published=PUBLISHED)
    if not as_json:
        show(f"\n{time.monotonic() - started:.0f} s in all. Next:")
        show(f"  metafuse run {recipe}        # nothing new: exit status 3")
        show(f"  metafuse plan {recipe}       # what it reads, writes and costs")
        show(f"  metafuse predict {place / 'merged'} --text 'What a lovely phone!'")
    return 0


def run_predict(
    models: Sequence[str], texts: Sequence[str], *, base: str | None, as_json: bool
) -> int:
    """`metafuse predict`."""
    from jobs.adapter_bases import find_written_base
    from jobs.discover import find_candidates
    from jobs.predict import find_asked, predict

    uris = []
    for model in models:
        uri, is_promoted = find_asked(model)
        uris.append(uri)
        written = find_written_base(uri) if is_promoted else None
        base = base or (written.checkpoint.uri if written is not None else None)
    found = find_candidates(uris, settle_seconds=0, now=time.time(), base=base)
    if found.skipped:
        lines = [f"  {entry.name}: {entry.code} {entry.reason}" for entry in found.skipped]
        count = len(found.skipped) + len(found.candidates)
        raise IncompleteError(
            f"{len(found.skipped)} of {count} models cannot be asked:\n" + "\n".join(lines),
            "mend them, or leave them out",
        )
    asked = list(texts) or [line.strip() for line in sys.stdin if line.strip()]
    if not asked:
        raise UsageError("nothing to ask: no --text and nothing on stdin")
    count = len(found.candidates)
    answers = predict(found.candidates, [1 / count] * count, asked)
    if as_json:
        show_json({"answers": [asdict(answer) for answer in answers]})
        return 0
    for answer in answers:
        sure = f"  {answer.probability:.3f}" if answer.probability is not None else ""
        show(f"{answer.answer}{sure}\t{answer.text}")
    return 0


def show_resolved(output: str, *, with_bytes: bool, as_json: bool) -> int:
    """`metafuse resolve`."""
    from jobs.operate import resolve

    found = resolve(output, with_bytes=with_bytes)
    if as_json:
        pointer = found.pointer
        show_json({"uri": found.uri, "run": pointer.run, "epoch": pointer.epoch,
                   "manifest_sha256": pointer.manifest_sha256})  # fmt: skip
    else:
        show(found.uri)
    return 0


def run_pull(output: str, folder: Path, *, as_json: bool) -> int:
    """`metafuse pull`."""
    from jobs.pull import pull

    progress = Progress(is_quiet=as_json)
    try:
        found = pull(
            output,
            folder,
            on_block=lambda done, total, figures: progress.say(
                "pull", done, total, figures.unit, figures
            ),
        )
    finally:
        progress.close()
    if as_json:
        show_json({"uri": found.uri, "folder": str(folder), "run": found.pointer.run})
    else:
        show(str(folder))
    return 0


def show_report(output: str, run_name: str | None, folder: Path | None, *, as_json: bool) -> int:
    """`metafuse report`."""
    from jobs.commit import read_pointer
    from jobs.judgements import find_judgements, judgement_key

    store = open_store(output)
    seen = read_pointer(store)
    name = run_name or (seen.pointer.run if seen else _newest_run(output))
    judgements = list(find_judgements(store, name))
    if not judgements:
        raise NotFoundError(
            f"{store.uri} has no report of a run {name!r}",
            f"metafuse status {output} lists its runs",
        )
    last = judgements[-1]
    if folder is not None:
        folder.mkdir(parents=True, exist_ok=True)
        for file in ("report.html", "report.md", "report.json"):
            key = judgement_key(name, file, last.number)
            (folder / file).write_bytes(store.read(key))
        page = str(folder / "report.html")
        if as_json:
            show_json({"run": name, "report": page})
        else:
            show(page)
        return 0
    if as_json:
        print_bytes(last.content)
    else:
        show(store.read(judgement_key(name, "report.md", last.number)).decode())
        page = judgement_key(name, "report.html", last.number)
        show(f"{store.uri}/{page} ({last.report.verdict.decision})")
    return 0


def run_doctor(
    output: str | None,
    address: str | None,
    *,
    recipe: Path | None,
    with_code: bool,
    as_json: bool,
) -> int:
    """`metafuse doctor`."""
    from jobs.doctor import examine

    said: dict[str, object] = {}
    if address is not None and address.startswith(("http://", "https://")):
        from jobs.doctor_jobs import examine_jobs_api

        # Whoever submits needs no access to the output: the job looks at it.
        findings = examine(None)
        findings += examine_jobs_api(address.rstrip("/"), output, recipe, with_code=with_code)
    elif address is not None:
        from jobs.doctor_cluster import examine_cluster

        loaded = load_recipe(recipe) if recipe else None
        findings, driver = examine_cluster(address, output, loaded)
        said["driver"] = asdict(driver)
    else:
        findings = examine(output)
    if as_json:
        show_json({**said, "findings": [asdict(finding) for finding in findings]})
    else:
        for finding in findings:
            show(f"{'ok  ' if finding.is_good else 'LOOK'}  {finding.what}: {finding.text}")
    if all(finding.is_good for finding in findings):
        return 0
    return 21 if address is None else 40


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
    raise UsageError(f"--date {text}: expected YYYY-MM-DD or YYYY-MM-DDTHHMMZ")


def print_bytes(content: bytes) -> None:
    """JSON as it is stored."""
    sys.stdout.write(content.decode())


def _newest_run(output: str) -> str:
    store = open_store(output)
    found = [entry for entry in store.list("runs/") if entry.key.endswith("/report.json")]
    if not found:
        raise NoCandidatesError(f"{store.uri} has no report yet", "metafuse run RECIPE writes one")
    return max(found, key=lambda entry: entry.modified).key.split("/")[1]


def _show_cost(recipe: Recipe, prepared: Prepared, cost: RunCost) -> None:
    size = f"{cost.num_parameters:,} parameters"
    show(f"plan {recipe.name}  {cost.num_candidates} candidates of {size}")
    show(f"  evaluate   read {cost.evaluate_bytes / GB:.3f} GB for the rank and gate slices")
    show(
        f"  merge      {cost.num_tensors} tensors, {recipe.merge.method}, {cost.dtype}; read "
        f"{cost.read_bytes / GB:.3f} GB, write {cost.write_bytes / GB:.3f} GB "
        f"({', '.join(recipe.baselines) or 'no'} baseline included)"
    )
    requests = f"{cost.num_gets:,} reads, {cost.num_puts:,} writes"
    show(f"  on S3      {requests} = ${cost.dollars:.4f}; kept ${cost.month_dollars:.4f} a month")
    show(
        f"  memory     {cost.merge_memory_bytes / 2**20:.0f} MiB a merge worker, "
        f"about {cost.evaluate_memory_bytes / 2**20:.0f} MiB an evaluation"
    )
    show(
        f"  time       about {format_seconds(cost.evaluate_seconds)} to evaluate, "
        f"{format_seconds(cost.merge_seconds)} to merge; a faster or slower machine changes that"
    )
    show(f"  plan id    {cost.plan[:12]} with equal weights")
    for line in find_doubts(prepared.candidates):
        warn(line)
    for candidate in prepared.candidates:
        show(f"  use        {candidate.name}")
    for entry in prepared.skipped:
        show(f"  skip       {entry.name}: {entry.code} {entry.reason}")


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
        state = "nothing new" if status == 3 else outcome["reason"]
        show(f"{run}: {state}; it ended as {outcome['result']}. Report: {place}")
        return
    show_report_table(report)
    show(f"\n{BADGES[report.verdict.decision]}  {report.headline}")
    if outcome["reason"] != report.verdict.sentence:
        show(f"{outcome['result']}: {outcome['reason']}")
    show(f"report   {place}")
