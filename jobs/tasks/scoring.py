"""A model on examples: encode, forward, figures a row, folded to one record an example."""

from collections.abc import Mapping, Sequence

import numpy as np
import numpy.typing as npt

from fusion.scores.records import Floats, Records
from jobs.models.batches import run_forward
from jobs.models.contract import Encoded, Model
from jobs.tasks.contract import Batch, Example, Task


def score_examples(
    task: Task,
    model: Model,
    examples: Sequence[Example],
    *,
    batch_size: int,
    max_length: int | None,
) -> tuple[Records, int]:
    """Records of the examples, in their order, and how many lost their end.

    Rows are batched by length; what a batch holds beside a row changes its losses by less than 1e-5
    of themselves.

    Raises:
        ValueError: the kind gives no figures, or more rows an example than it can fold.
    """
    if task.score is not None:
        return task.score(model, examples), 0
    fed = [{**e.inputs, "target": e.truth} if task.feeds_truth else e.inputs for e in examples]
    encoded = model.encode(fed, max_length=max_length, stride=task.stride)
    rows = _figures(task, model, encoded, examples, batch_size)
    folded = dict(_fold(task, rows, np.asarray(encoded.example), len(examples)))
    records = Records(
        ids=tuple(example.id for example in examples),
        clusters=tuple(example.cluster for example in examples),
        losses=folded.pop("losses"),
        units=folded.pop("units"),
        outputs=folded.pop("outputs", None),
        columns=folded,
    )
    return records, encoded.num_truncated


def _figures(
    task: Task, model: Model, encoded: Encoded, examples: Sequence[Example], batch_size: int
) -> Mapping[str, Floats]:
    """Figures [m, ...] by name, in the order of the rows."""
    if task.rows is None:
        raise ValueError(f"{task.spec.kind} gives neither rows nor a score of its own")
    order: list[int] = []
    parts: list[Mapping[str, Floats]] = []
    for chosen, batch, outputs in run_forward(model, encoded, batch_size):
        facts = [encoded.facts[row] for row in chosen] if encoded.facts else [{}] * len(chosen)
        truths = [examples[encoded.example[row]].truth for row in chosen]
        parts.append(task.rows(Batch(batch, outputs, facts, truths)))
        order += chosen
    places = np.argsort(order)
    return {name: np.concatenate([part[name] for part in parts])[places] for name in parts[0]}


def _fold(
    task: Task, rows: Mapping[str, Floats], example: npt.NDArray[np.int64], count: int
) -> Mapping[str, Floats]:
    if task.fold is not None:
        return task.fold(rows, example)
    if len(example) == count:
        return rows
    if set(rows) != {"losses", "units"}:
        raise ValueError(f"{task.spec.kind} has several rows an example and does not fold them")
    return {
        name: np.bincount(example, weights=values).astype(np.float64)
        for name, values in rows.items()
    }
