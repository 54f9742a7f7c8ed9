"""An adapter as a whole checkpoint on disk: the same arithmetic as a merge of it alone."""

from pathlib import Path

import torch

from cluster.workers.hands import Hands
from cluster.workers.runner import SerialRunner
from fusion.checkpoints.checkpoint import Checkpoint
from fusion.plans.layout import format_index, plan_merge
from fusion.plans.requests import model_request
from fusion.plans.wish import MergeWish
from jobs.candidates.shards import INDEX
from jobs.merge.driver import merge_all
from jobs.merge.job import MergeJob
from jobs.merge.memory import fit_worker

MEMORY_BYTES = 2 << 30
FOLDER = "dense"


def write_dense(checkpoint: Checkpoint, folder: Path) -> Path:
    """Write base plus adapter in float32, or float64 where the base is, tensor by tensor.

    Returns:
        The folder of the shards, below `folder`.
    """
    base = checkpoint.adapter.base if checkpoint.adapter is not None else checkpoint
    is_double = any(spec.dtype == "F64" for spec in base.tensors)
    request = model_request(
        [checkpoint], [1.0], MergeWish(dtype="float64" if is_double else "float32")
    )
    plan = plan_merge(request)
    memory = fit_worker(plan, str(folder), MEMORY_BYTES)
    job = MergeJob(plan, str(folder), FOLDER, "ledger", memory, with_sha256=False)
    threads = torch.get_num_threads()
    try:
        merge_all(job, Hands(SerialRunner(), 1))
    finally:
        torch.set_num_threads(threads)
    if len(plan.shards) > 1:
        (folder / FOLDER / INDEX).write_bytes(format_index(plan))
    return folder / FOLDER
