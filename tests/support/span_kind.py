"""A kind of task as a user writes one: where in a context the answer to a question stands."""

import numpy as np
import torch

from fusion.scores.contract import Metric, TaskSpec
from jobs.errors import DataError
from jobs.tasks.contract import Task

SPEC = TaskSpec(
    kind="spans",
    head="span",
    columns={"text": "text", "text_pair": "text", "answer": "any"},
    metrics={"start_loss": Metric("start loss", each=lambda r: r.columns["start_loss"],
                                  is_better_high=False)},
    shown=("start_loss",),
    loss="mean log loss of start and end, in nats",
)  # fmt: skip


def read_spans(cells, asked):
    """(first character, one past the last) of every answer."""
    for row, cell in enumerate(cells):
        if not isinstance(cell, dict) or set(cell) != {"start", "text"}:
            raise DataError(f"{asked.where}: row {row} has no answer with start and text")
    return [(cell["start"], cell["start"] + len(cell["text"])) for cell in cells]


def rows(batch):
    """Log of the summed exponentials over the context's tokens, and over the right one."""
    found = {name: [] for name in ("all_start", "all_end", "gold_start", "gold_end")}
    for row, (facts, (first, end)) in enumerate(zip(batch.facts, batch.truths, strict=True)):
        places = [i for i, part in enumerate(facts["parts"]) if part == 1]
        for name, edge in (("start", 0), ("end", 1)):
            logits = batch.outputs[f"{name}_logits"][row].double()
            wanted = (first, end)[edge]
            gold = [i for i in places if facts["offsets"][i][edge] == wanted]
            found[f"all_{name}"].append(float(torch.logsumexp(logits[places], dim=0)))
            found[f"gold_{name}"].append(float(logits[gold[0]]) if gold else -np.inf)
    return {name: np.array(values) for name, values in found.items()}


def fold(rows, example):
    """One softmax over all windows of a context."""
    count = int(example.max()) + 1
    sums = {}
    for name, values in rows.items():
        sums[name] = np.full(count, -np.inf)
        np.logaddexp.at(sums[name], example, values)
    start = sums["all_start"] - sums["gold_start"]
    return {
        "losses": start + sums["all_end"] - sums["gold_end"],
        "units": np.ones(count),
        "start_loss": start,
    }


SPANS = Task(
    spec=SPEC, truths=read_spans, rows=rows, fold=fold, stride=3, floor=lambda _: float("inf")
)
NO_TASK = SPEC
