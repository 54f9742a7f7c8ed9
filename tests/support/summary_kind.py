"""A kind of task as a user writes one: the loss of a written reference, teacher-forced."""

import numpy as np
import torch

from fusion.scores.contract import TaskSpec
from jobs.models.contract import IGNORED_LABEL
from jobs.tasks.contract import Task

SPEC = TaskSpec(
    kind="summaries",
    head="tokens",
    columns={"text": "text", "summary": "text"},
    metrics={},
    loss="nats a token",
)


def rows(batch):
    """Summed losses of the reference's tokens, and how many there are."""
    labels = batch.inputs["labels"]
    real = labels != IGNORED_LABEL
    told = torch.log_softmax(batch.outputs["logits"].double(), dim=-1)
    chosen = told.gather(-1, labels.where(real, 0).unsqueeze(-1)).squeeze(-1)
    losses = -(chosen * real).sum(dim=1)
    return {"losses": losses.numpy(), "units": real.sum(dim=1).double().numpy()}


SUMMARIES = Task(
    spec=SPEC, truths=lambda cells, _: cells, rows=rows, feeds_truth=True,
    floor=lambda _: float(np.log(200)),
)  # fmt: skip
