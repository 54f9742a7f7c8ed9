"""The part of an evaluation that needs torch: a checkpoint on examples."""

import os
import time
from collections.abc import Sequence

import numpy as np
import torch

from cluster.stores.open_store import open_store
from cluster.workers.process_memory import peak_bytes
from fusion.checkpoints.checkpoint import Checkpoint, checkpoint_digest
from fusion.scores.records import Records
from jobs.evaluate.record_files import format_records
from jobs.models.families import LoadedModel, load_model
from jobs.tasks.contract import EvaluationTask, Example
from jobs.tasks.data import Examples
from jobs.tasks.examples import load_examples, read_truths
from jobs.tasks.find_task import find_task
from jobs.tasks.scoring import score_examples

# Above this a tensor looks damaged: trained weights stay far below.
SUSPICIOUS_MAGNITUDE = 1e6


def score_checkpoint(
    checkpoint: Checkpoint,
    slice_name: str,
    task: EvaluationTask,
    *,
    cache: str,
    key: str,
    started: float,
) -> tuple[str, int]:
    """Score one checkpoint on one slice and write its records.

    Returns:
        What looks damaged ("" for nothing), and how many texts were cut.
    """
    torch.set_num_threads(int(os.environ.get("OMP_NUM_THREADS", "1")))
    examples = load_examples(task)
    loaded = load_model(checkpoint, find_task(task.kind).spec.head)
    records, num_truncated = score_rows(loaded, examples, examples.rows(slice_name), task)
    health = ""
    if loaded.largest > SUSPICIOUS_MAGNITUDE:
        health = f"absmax {loaded.largest:.2g} in {loaded.where}"
    facts = {
        "checkpoint": checkpoint_digest(checkpoint),
        "task": task.digest,
        "slice": slice_name,
        "seconds": repr(time.monotonic() - started),
        "peak_bytes": str(peak_bytes()),
        "num_truncated": str(num_truncated),
        "health": health,
    }
    open_store(cache).put(key, format_records(records, loaded.model.labels, facts))
    return health, num_truncated


def score_rows(
    loaded: LoadedModel, examples: Examples, rows: Sequence[int], task: EvaluationTask
) -> tuple[Records, int]:
    """Records of the given examples, and how many texts were cut."""
    truths = read_truths(examples, task, loaded.model.labels)
    chosen = [
        Example(examples.ids[i], examples.clusters[i], examples.inputs[i], truths[i]) for i in rows
    ]
    return score_examples(
        find_task(task.kind),
        loaded.model,
        chosen,
        batch_size=task.batch_size,
        max_length=task.max_length,
    )


def rescoring_difference(
    checkpoint: Checkpoint, task: EvaluationTask, records: Records, *, count: int = 16
) -> float:
    """Largest relative change when a few examples are scored again, one by one.

    Of the losses, relative to the larger of 1 and the mean loss. Of models that tell a value: of
    the values, relative to the larger of 1 and themselves, as the square of a small difference of
    two large numbers tells nothing of how exact they are.
    """
    examples = load_examples(task)
    row_of = {name: row for row, name in enumerate(examples.ids)}
    chosen = list(records.ids[:count])
    head = find_task(task.kind).spec.head
    loaded = load_model(checkpoint, head)
    again, _ = score_rows(loaded, examples, [row_of[name] for name in chosen], task)
    if head == "value" and again.outputs is not None and records.outputs is not None:
        before = records.outputs[: len(chosen)]
        return float((np.abs(again.outputs - before) / np.maximum(1.0, np.abs(before))).max())
    scale = max(1.0, float(np.abs(records.losses).mean()))
    return float(np.abs(again.losses - records.losses[: len(chosen)]).max()) / scale
