"""The main job, step by step: find, pin, evaluate, weigh, merge, evaluate again, judge, promote.

Every step takes the run and values of earlier steps, and reads what an earlier driver finished.
None writes without asking the lease: the store of the run does that at each write.
"""

from jobs.run.attempt import Attempt, ended_by, open_attempts, open_run
from jobs.run.conclude import find_promoted, find_unchanged, finish, incumbents, promote
from jobs.run.context import opened
from jobs.run.merges import fuse_baselines, fuse_members, plan_members
from jobs.run.request import RunRequest, RunResult
from jobs.run.weigh import choose_weights, rank_candidates
from jobs.run.witness import Witness
from jobs.run.write_results import judge, publish


def run_recipe(request: RunRequest) -> RunResult:
    """Carry a run to its end, or take up one that was interrupted.

    Raises:
        PointerError: the store keeps no conditional writes, or the pointer is another recipe's.
        LockedError: a live driver is writing to the same output.
        JobError, FusionError, ClusterError: a step of the run failed.
    """
    with open_run(request) as run:  # the output, its lease, whose pointer it is
        for attempt in open_attempts(run):  # the unfinished one, else a new one
            with ended_by(attempt):  # a changed source, too few, NaN: outcome.json says so
                return attempt.ended or carry_out(attempt)
            # Only a damaged candidate comes here: the next attempt leaves it out.
    raise AssertionError("attempts end by a result or by an error")


def carry_out(attempt: Attempt) -> RunResult:
    """One attempt, from its frozen pins to its outcome."""
    with opened(attempt) as run:  # candidates by their pins, workers
        ranked = rank_candidates(run)  # a row an example, cached by pin
        chosen = choose_weights(run, ranked)  # weights.json, frozen by the first driver
        plan = plan_members(run, chosen)  # its id is the digest of its content
        unchanged = find_unchanged(run.store, run.plan, plan.id)
        if unchanged is not None:
            return finish(run.folder, unchanged)

        fused = fuse_members(run, plan)  # parts, then side files, then the model's manifest
        rivals = fuse_baselines(run, chosen, plan)  # same units, other weights
        witness = Witness(ranked, chosen, fused, rivals)

        for incumbent, is_last in incumbents(run.store, run.plan):
            judgement = judge(run, witness, incumbent)  # once an incumbent
            ruling = publish(run, fused, judgement)  # pages, then the run's manifest
            outcome = promote(
                run.store, run.plan, fused.folder, ruling=ruling, is_last=is_last
            )  # compare-and-swap; None where another model was promoted meanwhile
            if outcome is not None:
                return finish(run.folder, outcome)  # outcome.json, last of all
        # Another driver of this run promoted it meanwhile.
        return finish(run.folder, find_promoted(run.store, run.plan))
