"""The slices of a run, made once and frozen beside its plan; or those of an older run's records."""

from dataclasses import replace

from jobs.errors import SourceChangedError
from jobs.evaluate.record_files import recorded_ids
from jobs.outputs.keys import SCORES, SLICES_KEY
from jobs.outputs.run_folder import RunFolder
from jobs.outputs.runs import RunPlan
from jobs.tasks.contract import EvaluationTask
from jobs.tasks.examples import load_examples
from jobs.tasks.slicing import (
    Slices,
    follow_records,
    keep_slices,
    name_slices,
    parse_slices,
)


def freeze_slices(
    folder: RunFolder, plan: RunPlan, task: EvaluationTask, made: Slices | None
) -> tuple[EvaluationTask, Slices]:
    """The task with the run's slices, which the first driver writes and all others read.

    A run that an older release began has no digest of slices in its plan: it ends with the slices
    of its records, and finds these again.

    Args:
        folder: folder of the run.
        plan: plan of the run.
        task: task with pinned data.
        made: slices that this driver made; None where it takes up a run.

    Raises:
        SourceChangedError: the slices cannot be made again as the plan has them.
    """
    content = folder.read(SLICES_KEY)
    if content is None:
        sliced = made or load_examples(task).sliced
        if not plan.slices:
            sliced = follow_records(sliced, recorded_ids(folder.store, SCORES, task.digest))
        content = keep_slices(folder.store, folder.prefix, sliced)
    where = f"{folder.store.uri}/{folder.key(SLICES_KEY)}"
    found = parse_slices(content, where)
    if plan.slices and found.digest != plan.slices:
        raise SourceChangedError(
            f"{where}: these are not the slices that the run began with. Nothing was published.",
            "run the same command again: it starts an attempt with slices of its own",
        )
    frozen = name_slices(folder.store, folder.prefix, content, digest=plan.slices)
    return replace(task, slices=frozen), found
