"""The main job, step by step: find, pin, evaluate, weigh, merge, evaluate again, judge, promote."""

from dataclasses import replace

from cluster.stores.store import Store
from fusion.errors import NonFiniteError
from fusion.manifests.report import RunReport
from jobs.console.json_log import name_run
from jobs.errors import SourceChangedError, TooFewError
from jobs.outputs.judgements import find_judgement, find_judgements
from jobs.outputs.lease import Lease, held_lease
from jobs.outputs.open_output import Output, open_output
from jobs.outputs.pointer import check_owner, read_pointer
from jobs.outputs.progress_note import kept_progress
from jobs.outputs.puts import keep_first
from jobs.outputs.runs import Incumbent, Outcome, run_name, write_outcome
from jobs.run.attempt import Begun, begin, open_frozen, take_up
from jobs.run.baselines import delete_baselines, fuse_all, nothing_late, plan_members
from jobs.run.conclude import EXIT_NOTHING_NEW, Ruling, conclude, finish_promoted, finish_unchanged
from jobs.run.context import RunContext
from jobs.run.judge import judge_fused
from jobs.run.prepare import make_task
from jobs.run.publish import keep_verdict, publish_judgement
from jobs.run.request import RunRequest, RunResult
from jobs.run.weigh import choose_weights


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
        begun = take_up(request, store) or begin(request, store, lease, ())
        while True:
            request.say("find and pin", 1, 1, f"{len(begun.identity.plan.candidates)} candidates")
            identity = begun.identity
            if identity.outcome is not None and identity.state == "nothing_new":
                run = identity.plan.run
                return RunResult(run, identity.outcome, EXIT_NOTHING_NEW, store.uri, None)
            found = _attempt(request, begun, output, lease)
            if isinstance(found, RunResult):
                return found
            begun = begin(request, store, lease, found)


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
            candidates=begun.candidates or open_frozen(plan),
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
    average = plan_members(context, members, chosen.weights)
    same = finish_unchanged(store, plan, average.id, check=context.lease.confirm)
    if same is not None:
        return RunResult(plan.run, same, same.exit_status, store.uri, None)
    incumbent = plan.incumbent
    is_judged = find_judgement(store, plan.run, incumbent.run if incumbent else "") is not None
    fused, others = fuse_all(context, request, members, average, with_baselines=not is_judged)
    seen: list[RunReport] = []

    def judge(incumbent: Incumbent | None) -> Ruling:
        judgement = find_judgement(store, plan.run, incumbent.run if incumbent else "")
        if judgement is None:
            with context.timed("evaluate fused"):
                judged = judge_fused(context, chosen, fused, others, incumbent)
            judgement = keep_verdict(context, request, begun, ranked, chosen, fused, judged)
        seen.append(judgement.report)
        verdict = judgement.report.verdict
        return Ruling(
            verdict.decision, verdict.sentence, publish_judgement(context, fused, judgement)
        )

    outcome = conclude(store, plan, model=fused.folder, judge=judge, check=context.lease.confirm)
    return RunResult(plan.run, outcome, outcome.exit_status, store.uri, seen[-1])
