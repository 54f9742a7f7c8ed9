"""What a task is: columns, forward, loss, shown metrics."""

from collections.abc import Mapping
from dataclasses import dataclass

from fusion.canonical import digest, to_json
from fusion.checkpoints.checkpoint import Pin
from jobs.tasks.slicing import FrozenSlices

# Part of every task digest: bump it when the same file and model would give other records.
EVALUATOR_VERSION = 1


@dataclass(frozen=True, slots=True)
class EvaluationTask:
    """What models are evaluated on, with the data pinned.

    Attributes:
        kind: text-classification.
        data: URI of a .parquet, .csv or .jsonl file.
        pin: which bytes of it.
        text: column of the texts.
        label: column of the labels: class names, or whole numbers from 0.
        id: column of unique names; "" makes them from the content.
        cluster: column of what binds examples together; "" is the text itself.
        shares: of the slices, of sum 1.
        batch_size: texts a forward pass.
        max_length: tokens read of each text; None: what the model can.
        slices: which example is in which slice; None: found from the data at each reading.
    """

    kind: str
    data: str
    pin: Pin
    text: str
    label: str
    id: str
    cluster: str
    shares: Mapping[str, float]
    batch_size: int
    max_length: int | None
    slices: FrozenSlices | None = None

    @property
    def digest(self) -> str:
        """Of everything that changes a score; the batch size does not."""
        content: dict[str, object] = {
            "version": EVALUATOR_VERSION,
            "kind": self.kind,
            "data": (self.pin.size, self.pin.etag, self.pin.version),
            "columns": (self.text, self.label, self.id, self.cluster),
            "shares": dict(self.shares),
            "max_length": self.max_length,
        }
        if self.slices is not None and self.slices.digest:
            content["slices"] = self.slices.digest
        return digest(to_json(content))
