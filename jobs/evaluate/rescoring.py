"""Is scoring repeatable? A few examples again, in another batch, in another process."""

from dataclasses import dataclass, replace

from fusion.checkpoints.checkpoint import Checkpoint
from fusion.scores.records import Records
from jobs.tasks.contract import EvaluationTask

EXAMPLES = 16


@dataclass(frozen=True, slots=True, eq=False)
class Rescoring:
    """Score the first examples of `records` again."""

    checkpoint: Checkpoint
    task: EvaluationTask
    records: Records


def rescore(order: Rescoring) -> float:
    """Largest change of a loss. Runs on a worker."""
    from jobs.evaluate.worker import rescoring_difference

    alone = replace(order.task, batch_size=1)
    return rescoring_difference(order.checkpoint, alone, order.records, count=EXAMPLES)
