"""The main job, step by step: find, pin, evaluate, weigh, merge, evaluate again, judge, promote."""

import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, replace

from cluster.runner import Runner
from cluster.store import Store, open_store
from fusion.canonical import digest, to_json
from fusion.checkpoint import Checkpoint, checkpoint_digest
from fusion.errors import FusionError, NonFiniteError
from fusion.manifest import PublishedFigure, RunManifest, RunReport
from fusion.metrics import score
from fusion.plan import MergePlan
from fusion.weights import uniform_weights
from jobs.choosing import ChosenWeights, choose_weights
from jobs.commit import check_owner, move_pointer, read_pointer
from jobs.discover import pin_checkpoint
from jobs.errors import JobError, SourceChangedError, TooFewError
from jobs.evaluate import ScoreBook
from jobs.fusing import FusedModel, delete_folder, fuse, plan_average
from jobs.judging import Judged, judge_fused
from jobs.lease import Lease, held_lease
from jobs.preparation import Prepared, prepare
from jobs.recipe import Recipe
from jobs.report import write_report
from jobs.reporting import make_report
from jobs.run_context import RunContext, Say
from jobs.run_identity import (
    Identity,
    Incumbent,
    Outcome,
    RunPlan,
    freeze,
    identify_run,
    read_incumbent,
    run_name,
    was_promoted,
    write_outcome,
)
from jobs.run_names import FUSED, UNIFORM
from jobs.tasks.text_classification import load_examples

EXIT_PROMOTED, EXIT_NOTHING_NEW, EXIT_HELD, EXIT_REFUSED = 0, 3, 4, 5
REJUDGED_AT_MOST = 3


@dataclass(frozen=True, slots=True)
class RunRequest:
    """What to run, for which date, and where.

    Attributes:
        recipe: what.
        logical_date: YYYY-MM-DD, or with a time.
        make_runner: starts workers; called only when there is work.
        eval_workers: evaluations at a time.
        merge_workers: merge workers.
        say: progress.
        clock: seconds since 1970.
        published: figures from elsewhere for the report.
    """

    recipe: Recipe
    logical_date: str
    make_runner: Callable[[], Runner]
    eval_workers: int
    merge_workers: int
    say: Say
    clock: Callable[[], float] = time.time
    published: tuple[PublishedFigure, ...] = ()


@dataclass(frozen=True, slots=True)
class RunResult:
    """How a run ended. `report` is None when there was nothing to do."""

    run: str
    outcome: Outcome
    exit_status: int
    output: str
    report: RunReport | None


def run_recipe(request: RunRequest) -> RunResult:
    """Carry a run to its end, or take up one that was interrupted.

    Raises:
        LockedError: the same output is being written by a live driver.
        JobError, FusionError, ClusterError: as the steps say.
    """
    recipe = request.recipe
    store = open_store(recipe.output)
    with held_lease(store, run_name(recipe.name, request.logical_date, 1)) as lease:
        request.say("find and pin", 0, 1, "")
        prepared = prepare(recipe, clock=request.clock)
        request.say("find and pin", 1, 1, f"{len(prepared.candidates)} candidates")
        seen = read_pointer(store)
        if seen is not None:
            check_owner(seen.pointer, recipe.name)
        excluded: tuple[str, ...] = ()
        while True:
            wanted = _wanted(request, prepared, read_incumbent(store), excluded)
            identity = identify_run(store, wanted)
            if identity.outcome is not None and identity.state == "nothing_new":
                run = identity.plan.run
                return RunResult(run, identity.outcome, EXIT_NOTHING_NEW, store.uri, None)
            found = _attempt(request, prepared, identity, store, lease)
            if isinstance(found, RunResult):
                return found
            excluded = found


def _attempt(
    request: RunRequest, prepared: Prepared, identity: Identity, store: Store, lease: Lease
) -> RunResult | tuple[str, ...]:
    """One attempt; returns the names to exclude where the next attempt must start at once."""
    plan = identity.plan
    try:
        context = RunContext(
            recipe=request.recipe,
            plan=plan,
            store=store,
            candidates=_pinned(identity, prepared),
            task=replace(prepared.task, pin=plan.data),
            runner=request.make_runner(),
            workers=request.eval_workers,
            lease=lease,
            say=request.say,
        )
        return _run_steps(context, request, identity)
    except SourceChangedError as error:
        write_outcome(store, plan.run, Outcome("source_changed", str(error), 20))
        raise
    except TooFewError as error:
        write_outcome(store, plan.run, Outcome("too_few", str(error), 13))
        raise
    except NonFiniteError as error:
        if request.recipe.merge.on_nonfinite == "stop" or not error.checkpoint:
            raise
        write_outcome(store, plan.run, Outcome("nonfinite", str(error), 13))
        return (*plan.excluded, error.checkpoint)


def _run_steps(context: RunContext, request: RunRequest, identity: Identity) -> RunResult:
    store, plan = context.store, context.plan
    store.put(f"{context.folder}/recipe.yaml", context.recipe.text.encode())
    with context.timed("evaluate"):
        ranked = context.score(context.candidates, "rank")
        chosen = choose_weights(context, ranked)
    fused, others = _fuse_all(context, request, chosen)
    incumbent = plan.incumbent
    if was_promoted(store, plan.run):
        # An earlier driver moved the pointer and died before it could say so.
        outcome = Outcome("promoted", f"latest already names {plan.run}", 0, _previous(store))
        write_outcome(store, plan.run, outcome)
        return RunResult(plan.run, outcome, EXIT_PROMOTED, store.uri, None)
    report = None
    outcome = Outcome("lost", "latest kept moving while this run was judged", EXIT_HELD)
    for _ in range(REJUDGED_AT_MOST):
        with context.timed("evaluate fused"):
            judged = judge_fused(context, chosen, fused, others, incumbent)
        report = _publish_report(context, request, identity, ranked, chosen, fused, judged)
        manifest_sha256 = _write_manifest(context, ranked, fused, judged)
        settled = _settle(context, fused, judged, manifest_sha256)
        if settled is not None:
            outcome = settled
            break
        incumbent = read_incumbent(store)
    outcome = write_outcome(store, plan.run, outcome)
    return RunResult(plan.run, outcome, outcome.exit_status, store.uri, report)


def _settle(
    context: RunContext, fused: FusedModel, judged: Judged, manifest_sha256: str
) -> Outcome | None:
    """Promote if the verdict says so; None if another model was promoted meanwhile."""
    verdict, plan = judged.verdict, context.plan
    if verdict.decision == "HOLD":
        return Outcome("held", verdict.sentence, EXIT_HELD)
    if verdict.decision == "REFUSE":
        return Outcome("refused", verdict.sentence, EXIT_REFUSED)
    before = judged.incumbent.run if judged.incumbent else ""
    promotion = move_pointer(
        context.store,
        recipe=plan.recipe,
        run=plan.run,
        model=fused.folder,
        manifest_sha256=manifest_sha256,
        order=plan.order,
        judged_against=before,
        check=context.lease.check,
    )
    if promotion.moved == "lost":
        return None
    if promotion.moved in ("promoted", "already"):
        return Outcome("promoted", promotion.reason, EXIT_PROMOTED, before)
    result = "hold" if promotion.moved == "held" else promotion.moved
    return Outcome(result, promotion.reason, EXIT_HELD)


def _wanted(
    request: RunRequest,
    prepared: Prepared,
    incumbent: Incumbent | None,
    excluded: tuple[str, ...],
) -> RunPlan:
    return RunPlan(
        run="",
        recipe=request.recipe.name,
        logical_date=request.logical_date,
        attempt=0,
        recipe_digest=request.recipe.digest,
        candidates=freeze(prepared.candidates),
        skipped=prepared.skipped,
        data=prepared.task.pin,
        incumbent=incumbent,
        excluded=excluded,
    )


def _pinned(identity: Identity, prepared: Prepared) -> tuple[Checkpoint, ...]:
    """The frozen candidates, which must still be the same bytes.

    Raises:
        SourceChangedError: one is not.
    """
    found = {candidate.uri: candidate for candidate in prepared.candidates}
    pinned = []
    for frozen in identity.plan.candidates:
        candidate = found.get(frozen.uri)
        try:
            if candidate is None:
                candidate, _ = pin_checkpoint(frozen.uri, name=frozen.name)
            changed = checkpoint_digest(candidate) != frozen.digest
        except (JobError, FusionError):
            changed = True
        if changed or candidate is None:
            raise SourceChangedError(
                f"candidate {frozen.name} ({frozen.uri}) is not what run {identity.plan.run} was "
                "started with. Nothing was published.",
                "run the same command again: it starts another attempt with what is there now",
            )
        if frozen.name not in identity.plan.excluded:
            pinned.append(replace(candidate, name=frozen.name))
    return tuple(pinned)


def _fuse_all(
    context: RunContext, request: RunRequest, chosen: ChosenWeights
) -> tuple[FusedModel, tuple[Checkpoint, ...]]:
    """The fused model, and the baselines that are not the same model."""
    members = [c for c in context.candidates if c.name in chosen.names]
    dtype = context.recipe.merge.dtype
    plan = plan_average(members, chosen.weights, dtype)

    def merged(weighted: MergePlan, folder: str, ledger: str, name: str) -> FusedModel:
        return fuse(
            weighted,
            context.store,
            folder=f"{context.folder}/{folder}-{weighted.short}",
            ledger=f"{context.folder}/{ledger}-{weighted.short}",
            name=name,
            title=f"{name.strip('()')} of {context.plan.run}",
            runner=context.runner,
            workers=request.merge_workers,
            memory_bytes=context.recipe.resources.merge.memory_bytes,
            on_progress=lambda done, total, size: context.say(
                f"merge {name.strip('()')}", done, total, f"{size:,} bytes"
            ),
        )

    with context.timed("merge"):
        fused = merged(plan, "model", "ledger", FUSED)
    baseline = plan_average(members, uniform_weights(len(members)), dtype)
    if "uniform" not in context.recipe.baselines or baseline.id == plan.id:
        return fused, ()
    with context.timed("merge baseline"):
        uniform = merged(baseline, "baseline", "ledger-baseline", UNIFORM)
    return fused, (uniform.checkpoint,)


def _publish_report(
    context: RunContext,
    request: RunRequest,
    identity: Identity,
    ranked: ScoreBook,
    chosen: ChosenWeights,
    fused: FusedModel,
    judged: Judged,
) -> RunReport:
    context.say("report", 0, 1, "")
    examples = load_examples(context.task)
    notes = []
    if examples.num_repeated:
        notes.append(
            f"{examples.num_repeated} near-duplicates of examples in other slices were left out"
        )
    if identity.state == "resumed":
        notes.append("the run was interrupted and taken up again; times are of the last part")
    if identity.left_for_later:
        found = ", ".join(identity.left_for_later)
        notes.append(f"found since the run began and left for the next: {found}")
    report = make_report(
        context,
        ranked=ranked,
        chosen=chosen,
        fused=fused,
        judged=judged,
        slices=Counter(name for name in examples.slices if name),
        notes=tuple(notes),
        published=request.published,
    )
    for name, content in write_report(report).items():
        context.store.put(f"{context.folder}/{name}", content)
    context.say("report", 1, 1, "")
    return report


def _write_manifest(
    context: RunContext, ranked: ScoreBook, fused: FusedModel, judged: Judged
) -> str:
    """Write the run's manifest; returns its sha256."""
    plan = context.plan
    for book in (ranked, judged.book):
        for name, slice_name in book.results:
            context.keep_records(name, slice_name, book)
    content = to_json(
        RunManifest(
            run=plan.run,
            recipe=plan.recipe,
            logical_date=plan.logical_date,
            attempt=plan.attempt,
            recipe_digest=plan.recipe_digest,
            model=fused.folder,
            model_manifest_sha256=fused.manifest_sha256,
            verdict=judged.verdict,
            scores=tuple(
                score(records, name=name, slice=slice_name)
                for (name, slice_name), records in sorted(judged.book.records.items())
            ),
            report_sha256=digest(context.store.read(f"{context.folder}/report.json")),
        )
    )
    context.store.put(f"{context.folder}/manifest.json", content)
    for entry in context.store.list(f"{context.folder}/baseline-"):
        delete_folder(context.store, entry.key.rpartition("/")[0])
        break
    return digest(content)


def _previous(store: Store) -> str:
    found = read_pointer(store)
    return found.pointer.previous if found else ""
