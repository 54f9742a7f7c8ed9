"""The main job, step by step: find, pin, evaluate, weigh, merge, evaluate again, judge, promote."""

import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from cluster.runner import Runner
from cluster.store import Store
from fusion.checkpoint import Checkpoint
from fusion.errors import NonFiniteError
from fusion.manifest import PublishedFigure, RunManifest, RunReport
from fusion.plan import MergePlan
from fusion.weights import uniform_weights
from jobs.adapters import find_doubts
from jobs.choosing import ChosenWeights, choose_weights
from jobs.commit import check_owner, keep_first, read_pointer
from jobs.discover import find_places, open_pinned
from jobs.errors import SourceChangedError, TooFewError
from jobs.evaluate import ScoreBook
from jobs.fusing import FusedModel, delete_baselines, fuse, nothing_late, plan_average
from jobs.json_log import name_run
from jobs.judgements import (
    Judgement,
    find_judgement,
    find_judgements,
    keep_judgement,
    keep_manifest,
    write_pages,
)
from jobs.judging import Judged, judge_fused
from jobs.lease import Lease, held_lease
from jobs.output_store import Output, open_output
from jobs.pace import Say
from jobs.preparation import Prepared, make_task, prepare
from jobs.progress_note import kept_progress
from jobs.publish import EXIT_NOTHING_NEW, Ruling, conclude, finish_promoted, finish_unchanged
from jobs.recipe import Recipe
from jobs.reporting import make_report
from jobs.run_context import RunContext
from jobs.run_identity import (
    Identity,
    Incumbent,
    Outcome,
    RunPlan,
    find_unfinished,
    freeze,
    identify_run,
    read_incumbent,
    run_name,
    write_outcome,
)
from jobs.run_names import FUSED, INCUMBENT, UNIFORM
from jobs.tasks.text_classification import EvaluationTask, load_examples


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
        PointerError: the store keeps no conditional writes, or the pointer is another recipe's.
        LockedError: the same output is being written by a live driver.
        JobError, FusionError, ClusterError: as the steps say.
    """
    recipe = request.recipe
    output = open_output(recipe.output, single_writer=recipe.single_writer)
    store = output.store
    with held_lease(store, run_name(recipe.name, request.logical_date, 1)) as lease:
        request.say("find and pin", 0, 1, "")
        seen = read_pointer(store)
        if seen is not None:
            check_owner(seen.pointer, recipe.name)
        begun = _take_up(request, store) or _begin(request, store, lease, ())
        while True:
            request.say("find and pin", 1, 1, f"{len(begun.identity.plan.candidates)} candidates")
            identity = begun.identity
            if identity.outcome is not None and identity.state == "nothing_new":
                run = identity.plan.run
                return RunResult(run, identity.outcome, EXIT_NOTHING_NEW, store.uri, None)
            found = _attempt(request, begun, output, lease)
            if isinstance(found, RunResult):
                return found
            begun = _begin(request, store, lease, found)


@dataclass(frozen=True, slots=True)
class Begun:
    """An attempt to work on. `candidates` is None where they are to be opened by frozen pins."""

    identity: Identity
    candidates: tuple[Checkpoint, ...] | None
    task: EvaluationTask | None
    left_for_later: tuple[str, ...] = ()


def _take_up(request: RunRequest, store: Store) -> Begun | None:
    """The unfinished attempt, whatever has appeared beside its candidates since."""
    recipe = request.recipe
    identity = find_unfinished(
        store,
        recipe=recipe.name,
        logical_date=request.logical_date,
        recipe_digest=recipe.digest,
    )
    if identity is None:
        return None
    known = {candidate.uri for candidate in identity.plan.candidates}
    known |= {entry.uri for entry in identity.plan.skipped}
    later = tuple(uri for uri in find_places(recipe.candidates) if uri not in known)
    return Begun(identity, None, None, later)


def _begin(request: RunRequest, store: Store, lease: Lease, excluded: tuple[str, ...]) -> Begun:
    """A new attempt with what is there now, unless there is nothing new."""
    prepared = prepare(request.recipe, clock=request.clock)
    lease.confirm()
    wanted = _wanted(request, prepared, read_incumbent(store), excluded)
    identity = identify_run(store, wanted)
    if identity.state == "resumed":
        return Begun(identity, None, None)
    kept = tuple(c for c in prepared.candidates if c.name not in excluded)
    return Begun(identity, kept, prepared.task)


def _attempt(
    request: RunRequest, begun: Begun, output: Output, lease: Lease
) -> RunResult | tuple[str, ...]:
    """One attempt; returns the names to exclude where the next attempt must start at once."""
    plan, store = begun.identity.plan, output.store
    ended = finish_promoted(store, plan)
    if ended is not None:
        return _end_promoted(store, plan.run, ended)
    name_run(plan.run)
    try:
        context = RunContext(
            recipe=request.recipe,
            plan=plan,
            store=store,
            candidates=begun.candidates or _open_frozen(plan),
            task=replace(begun.task or make_task(request.recipe, pin=plan.data), pin=plan.data),
            runner=request.make_runner(),
            workers=request.eval_workers,
            lease=lease,
            say=request.say,
            notes=output.notes,
        )
        say = kept_progress(store, lease, plan.run, request.say)
        with nothing_late(store, lease, plan.run), say as told:
            return _run_steps(replace(context, say=told), request, begun)
    except SourceChangedError as error:
        lease.confirm()
        write_outcome(store, plan.run, Outcome("source_changed", str(error), 20))
        raise
    except TooFewError as error:
        lease.confirm()
        write_outcome(store, plan.run, Outcome("too_few", str(error), 13))
        raise
    except NonFiniteError as error:
        left = {candidate.name for candidate in plan.candidates} - set(plan.excluded)
        if request.recipe.merge.on_nonfinite == "stop" or error.checkpoint not in left:
            raise
        lease.confirm()
        write_outcome(store, plan.run, Outcome("nonfinite", str(error), 13))
        return (*plan.excluded, error.checkpoint)


def _end_promoted(store: Store, run: str, outcome: Outcome) -> RunResult:
    """What an earlier driver left that moved the pointer and died before it could say so."""
    delete_baselines(store, run)
    reports = [judgement.report for judgement in find_judgements(store, run)]
    report = reports[-1] if reports else None
    return RunResult(run, outcome, outcome.exit_status, store.uri, report)


def _run_steps(context: RunContext, request: RunRequest, begun: Begun) -> RunResult:
    store, plan = context.store, context.plan
    keep_first(store, f"{context.folder}/recipe.yaml", context.recipe.text.encode())
    with context.timed("evaluate"):
        ranked = context.score(context.candidates, "rank")
        chosen = choose_weights(context, ranked)
    members = tuple(c for c in context.candidates if c.name in chosen.names)
    average = _plan(context, members, chosen.weights)
    same = finish_unchanged(store, plan, average.id, check=context.lease.confirm)
    if same is not None:
        return RunResult(plan.run, same, same.exit_status, store.uri, None)
    incumbent = plan.incumbent
    is_judged = find_judgement(store, plan.run, incumbent.run if incumbent else "") is not None
    fused, others = _fuse_all(context, request, members, average, with_baselines=not is_judged)
    seen: list[RunReport] = []

    def judge(incumbent: Incumbent | None) -> Ruling:
        judgement = find_judgement(store, plan.run, incumbent.run if incumbent else "")
        if judgement is None:
            with context.timed("evaluate fused"):
                judged = judge_fused(context, chosen, fused, others, incumbent)
            judgement = _keep_judgement(context, request, begun, ranked, chosen, fused, judged)
        seen.append(judgement.report)
        verdict = judgement.report.verdict
        return Ruling(verdict.decision, verdict.sentence, _publish(context, fused, judgement))

    outcome = conclude(store, plan, model=fused.folder, judge=judge, check=context.lease.confirm)
    return RunResult(plan.run, outcome, outcome.exit_status, store.uri, seen[-1])


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
        base=freeze((prepared.base,))[0] if prepared.base is not None else None,
    )


def _open_frozen(plan: RunPlan) -> tuple[Checkpoint, ...]:
    """The frozen candidates, which must still be the same bytes.

    Raises:
        SourceChangedError: one is not.
    """
    base = None
    if plan.base is not None:
        whole = plan.base
        base = open_pinned(whole.uri, whole.shards, whole.side_files, name=whole.name)
    return tuple(
        open_pinned(frozen.uri, frozen.shards, frozen.side_files, name=frozen.name, base=base)
        for frozen in plan.candidates
        if frozen.name not in plan.excluded
    )


def _plan(
    context: RunContext, members: Sequence[Checkpoint], weights: Sequence[float]
) -> MergePlan:
    wanted = context.recipe.merge
    return plan_average(members, weights, wanted.dtype, output=wanted.output)


def _fuse_all(
    context: RunContext,
    request: RunRequest,
    members: Sequence[Checkpoint],
    plan: MergePlan,
    *,
    with_baselines: bool,
) -> tuple[FusedModel, tuple[Checkpoint, ...]]:
    """The fused model, and the baselines that are not the same model."""

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
            resources=context.merge_resources(),
            # Nobody looks at the tensors of a baseline.
            health=context.recipe.merge.health if name == FUSED else "sampled",
            check=context.lease.confirm,
            on_progress=lambda done, total, figures: context.say(
                f"merge {name.strip('()')}", done, total, figures.unit, figures
            ),
        )

    with context.timed("merge"):
        fused = merged(plan, "model", "ledger", FUSED)
    baseline = _plan(context, members, uniform_weights(len(members)))
    is_wanted = with_baselines and "uniform" in context.recipe.baselines
    if not is_wanted or baseline.id == plan.id:
        return fused, ()
    with context.timed("merge baseline"):
        uniform = merged(baseline, "baseline", "ledger-baseline", UNIFORM)
    return fused, (uniform.checkpoint,)


def _keep_judgement(
    context: RunContext,
    request: RunRequest,
    begun: Begun,
    ranked: ScoreBook,
    chosen: ChosenWeights,
    fused: FusedModel,
    judged: Judged,
) -> Judgement:
    """Write what was seen and decided; nobody overwrites it afterwards."""
    context.lease.confirm()
    _keep_records(context, ranked, judged)
    examples = load_examples(context.task)
    notes = [*context.notes, *find_doubts(context.candidates)]
    if examples.num_repeated:
        notes.append(
            f"{examples.num_repeated} near-duplicates of examples in other slices were left out"
        )
    if examples.num_shared:
        notes.append(
            f"{examples.num_shared} examples of the audit slice nearly repeat one of the gate "
            "slice; they were left where they are"
        )
    if begun.identity.state == "resumed":
        notes.append("the run was interrupted and taken up again; times are of the last part")
    if begun.left_for_later:
        found = ", ".join(begun.left_for_later)
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
    return keep_judgement(context.store, context.plan.run, report, check=context.lease.confirm)


def _keep_records(context: RunContext, ranked: ScoreBook, judged: Judged) -> None:
    for book in (ranked, judged.book):
        for name, slice_name in book.results:
            # A run may be judged again, against another incumbent.
            against = f" {judged.incumbent.run}" if name == INCUMBENT and judged.incumbent else ""
            context.keep_records(name, slice_name, book, stored_as=name + against)


def _publish(context: RunContext, fused: FusedModel, judgement: Judgement) -> str:
    """Pages and manifest of a judgement; returns the manifest's sha256."""
    context.say("report", 0, 1, "")
    context.lease.confirm()
    plan, report = context.plan, judgement.report
    write_pages(context.store, plan.run, judgement)

    def make(report_sha256: str) -> RunManifest:
        return RunManifest(
            run=plan.run,
            recipe=plan.recipe,
            logical_date=plan.logical_date,
            attempt=plan.attempt,
            recipe_digest=plan.recipe_digest,
            model=fused.folder,
            model_manifest_sha256=fused.manifest_sha256,
            verdict=report.verdict,
            scores=tuple(row.gate for row in report.models),
            report_sha256=report_sha256,
        )

    sha256 = keep_manifest(context.store, plan.run, judgement, make)
    delete_baselines(context.store, plan.run)
    context.say("report", 1, 1, "")
    return sha256
