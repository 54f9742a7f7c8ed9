"""What a task is: which data, how its truths are read, what a model's outputs are worth."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from fusion.canonical import digest, to_json
from fusion.checkpoints.checkpoint import Pin
from fusion.scores.contract import TaskSpec
from fusion.scores.records import Floats, Records
from jobs.tasks.slicing import FrozenSlices

if TYPE_CHECKING:  # `plan` reads truths without torch
    from torch import Tensor

    from jobs.models.contract import Model

# Part of every task digest: bump it when the same file and model would give other records.
EVALUATOR_VERSION = 1


@dataclass(frozen=True, slots=True)
class DataFile:
    """One of several files of evaluation data, pinned."""

    uri: str
    pin: Pin


@dataclass(frozen=True, slots=True)
class EvaluationTask:
    """What models are evaluated on, with the data pinned.

    Attributes:
        kind: name of the kind: one of TASKS, or module:NAME.
        data: URI of the data: a file, or what stands for several.
        pin: which bytes of the data are meant; of several files, the digest of their pins.
        columns: name of the column by role, in the order of the kind; the truth is the last.
        id: name of the column of unique ids; "" makes ids from the content.
        cluster: name of the column of what binds examples together; "" for the text itself.
        shares: share of each slice by its name, of sum 1.
        batch_size: number of rows of a forward pass.
        max_length: number of tokens read of each text; None for as many as the model can read.
        labels: meaning of each value of the truth's column: a label, or the number of a class;
            empty for none.
        version: version of the kind.
        slices: place of the frozen slices; None where the slices are found from the data at each
            reading.
        files: the files, in order, where `data` stands for several; () for the one file at `data`.
    """

    kind: str
    data: str
    pin: Pin
    columns: Mapping[str, str]
    id: str
    cluster: str
    shares: Mapping[str, float]
    batch_size: int
    max_length: int | None
    labels: Mapping[str, str | int] = field(default_factory=dict)
    version: int = 1
    slices: FrozenSlices | None = None
    files: tuple[DataFile, ...] = ()

    @property
    def digest(self) -> str:
        """Of everything that changes a score; the batch size does not."""
        content: dict[str, object] = {
            "version": EVALUATOR_VERSION,
            "kind": self.kind,
            "data": (self.pin.size, self.pin.etag, self.pin.version),
            "columns": (*self.columns.values(), self.id, self.cluster),
            "shares": dict(self.shares),
            "max_length": self.max_length,
        }
        # What came later counts only where it is used, so that older scores are found.
        if self.labels:
            content["labels"] = dict(self.labels)
        if self.version != 1:
            content["kind_version"] = self.version
        if self.slices is not None and self.slices.digest:
            content["slices"] = self.slices.digest
        return digest(to_json(content))


@dataclass(frozen=True, slots=True)
class Asked:
    """What truths are read for.

    Attributes:
        labels: labels of the model, in the order of its outputs; () where it has no classes.
        mapping: `task.labels` of the recipe: label or class number by value in the data.
        where: place of the file, for messages.
        column: name of the truth's column, for messages.
        written: the cells as they are written, where a format without types leaves that to a guess;
            () where the cells are as they stand.
        first_line: number of the line of row 0, where each row is a line of the one file; else 0.
    """

    labels: tuple[str, ...]
    mapping: Mapping[str, str | int]
    where: str
    column: str
    written: tuple[str, ...] = ()
    first_line: int = 0


@dataclass(frozen=True, slots=True)
class Example:
    """One row of the data: its inputs by role, and its truth as `Task.truths` read it."""

    id: str
    cluster: str
    inputs: Mapping[str, object]
    truth: object


@dataclass(frozen=True, slots=True, eq=False)
class Batch:
    """b rows after their forward pass.

    Attributes:
        inputs: tensors [b, ...] that went in, padded; "labels" among them where truths are fed.
        outputs: tensors [b, ...] that the model gave, on the CPU.
        facts: what encoding knew of each row, such as the offsets of its tokens.
        truths: truth of the example that each row belongs to.
    """

    inputs: Mapping[str, "Tensor"]
    outputs: Mapping[str, "Tensor"]
    facts: Sequence[Mapping[str, object]]
    truths: Sequence[object]


@dataclass(frozen=True, slots=True)
class Task:
    """A kind of task. TASKS holds ours; a user's is named by module:NAME.

    Attributes:
        spec: spec of the kind: columns, head, metrics.
        truths: gives the meaning of the cells of the truth's column, decided once over the whole
            file, before a model is loaded; raises DataError.
        floor: gives the loss of a predictor that knows only the truths' distribution.
        rows: gives figures [b] by name for the rows of a batch: "losses", "units", "outputs" [b, c]
            where there are any, and columns of the kind's own. None where `score` is given.
        fold: makes the figures of n examples from those of m >= n rows, given the number of each
            row's example. None: losses and units are summed, and other figures need one row an
            example.
        stride: number of tokens that windows of a long input have in common; None if its end is not
            read.
        feeds_truth: whether the truth is a text that the decoder is fed with (teacher forcing).
        score: scores a model in the kind's own way, in place of `rows` and `fold`; None for the
            usual way.
    """

    spec: TaskSpec
    truths: Callable[[Sequence[object], Asked], Sequence[object]]
    floor: Callable[[Records], float]
    rows: Callable[[Batch], Mapping[str, Floats]] | None = None
    fold: Callable[[Mapping[str, Floats], npt.NDArray[np.int64]], Mapping[str, Floats]] | None = (
        None
    )
    stride: int | None = None
    feeds_truth: bool = False
    score: "Callable[[Model, Sequence[Example]], Records] | None" = None
