"""Text classification: texts and labels from a pinned file, cut into disjoint slices."""

import difflib
import hashlib
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from cluster.errors import ClusterError, NotFoundError, PreconditionError
from cluster.store import open_store
from fusion.canonical import digest, to_json
from fusion.checkpoint import Pin
from fusion.metrics import SMALLEST_CLUSTERS
from fusion.slices import (
    SLICES,
    assign_slice,
    canonical_text,
    find_gate_repeats,
    find_near_duplicates,
)
from jobs.errors import DataError, SourceChangedError

# Part of every task digest: bump it when the same file and model would give other records.
EVALUATOR_VERSION = 1
# Clusters: one to rank by; an error of the difference is known from two on.
SMALLEST_SLICES = {"rank": 1, "gate": SMALLEST_CLUSTERS}
NO_DATA = "check the path or URI under task.data; nothing was evaluated"
HINT = "set task.columns, or fix the data; nothing was evaluated"


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

    @property
    def digest(self) -> str:
        """Of everything that changes a score; the batch size does not."""
        content = {
            "version": EVALUATOR_VERSION,
            "kind": self.kind,
            "data": (self.pin.size, self.pin.etag, self.pin.version),
            "columns": (self.text, self.label, self.id, self.cluster),
            "shares": dict(self.shares),
            "max_length": self.max_length,
        }
        return digest(to_json(content))


@dataclass(frozen=True, slots=True)
class Examples:
    """n examples, in the order of the file.

    Attributes:
        ids: unique.
        clusters: short digest of what binds examples together.
        texts: to classify.
        labels: as in the file, as text.
        slices: rank, select, gate or audit; "" for dropped near-duplicates.
        num_repeated: examples dropped from rank and select because another slice has nearly the
            same text.
        num_shared: examples of audit that nearly repeat one of gate; they stay.
    """

    ids: tuple[str, ...]
    clusters: tuple[str, ...]
    texts: tuple[str, ...]
    labels: tuple[str, ...]
    slices: tuple[str, ...]
    num_repeated: int
    num_shared: int = 0

    def rows(self, name: str) -> list[int]:
        """Indices of one slice."""
        return [index for index, own in enumerate(self.slices) if own == name]


def pin_data(uri: str) -> Pin:
    """Which bytes of the evaluation data are meant.

    Raises:
        DataError: no such file.
    """
    folder, _, name = uri.rpartition("/")
    try:
        entry = open_store(folder or ".").head(name)
    except NotFoundError:
        raise DataError(f"task.data: {uri} does not exist", NO_DATA) from None
    return Pin(entry.size, entry.etag, entry.version)


def load_examples(task: EvaluationTask) -> Examples:
    """Read and slice the evaluation data.

    Raises:
        DataError: unreadable, or a column or value missing.
        SourceChangedError: the file is no longer the pinned one.
    """
    table = _read_table(task)
    texts = _column(table, task.text, task)
    labels = [str(value) for value in _column(table, task.label, task)]
    clusters = [str(v) for v in _column(table, task.cluster, task)] if task.cluster else texts
    ids = [str(v) for v in _column(table, task.id, task)] if task.id else _make_ids(texts, labels)
    repeated = [name for name, count in Counter(ids).items() if count > 1]
    if repeated:
        raise DataError(f"{task.data}: id {repeated[0]!r:.80} is given more than once", HINT)
    slices = [assign_slice(cluster, task.shares) for cluster in clusters]
    dropped = find_near_duplicates(texts, slices)
    kept = tuple("" if i in dropped else name for i, name in enumerate(slices))
    digests = tuple(
        hashlib.sha256(canonical_text(cluster).encode(errors="replace")).hexdigest()[:16]
        for cluster in clusters
    )
    return Examples(
        tuple(ids),
        digests,
        tuple(texts),
        tuple(labels),
        kept,
        len(dropped),
        len(find_gate_repeats(texts, slices)),
    )


def check_slices(examples: Examples, task: EvaluationTask) -> None:
    """Refuse data whose clusters are too few to rank candidates and to judge a model.

    Raises:
        DataError: with the clusters of every slice.
    """
    pairs = set(zip(examples.slices, examples.clusters, strict=True))
    counts = {name: sum(own == name for own, _ in pairs) for name in SLICES}
    lacking = [name for name, least in SMALLEST_SLICES.items() if counts[name] < least]
    if not lacking:
        return
    name, total = lacking[0], len({cluster for _, cluster in pairs})
    what = f"column {task.cluster!r}" if task.cluster else "each text is one"
    each = ", ".join(f"{name} {count}" for name, count in counts.items())
    share = "" if task.shares[name] > 0 else f", and task.slices.{name} is 0"
    raise DataError(
        f"{task.data}: {total} clusters ({what}) for {len(SLICES)} slices: {each}; the {name} "
        f"slice needs at least {SMALLEST_SLICES[name]}{share}. Nothing was evaluated.",
        "a cluster is never split: name a finer column under task.columns.cluster, leave it out "
        f"so that every text is its own, or give task.slices.{name} a larger share",
    )


def label_numbers(
    labels: Sequence[str], model_labels: Sequence[str], *, where: str
) -> tuple[int, ...]:
    """Class numbers of labels: by name, or as whole numbers where no name matches.

    Args:
        labels: as in the data.
        model_labels: the model's, in order.
        where: file and slice, for messages.

    Raises:
        DataError: a label that the model does not have.
    """
    table = {name: number for number, name in enumerate(model_labels)}
    if not any(label in table for label in labels):
        table = {str(number): number for number in range(len(model_labels))}
    for row, label in enumerate(labels):
        if label not in table:
            raise DataError(
                f"{where}: label {label!r:.80} (example {row}) is not one of the model's "
                f"{len(model_labels)} labels {list(model_labels)[:10]}",
                "labels are class names as in id2label, or whole numbers from 0",
            )
    return tuple(table[label] for label in labels)


def _read_table(task: EvaluationTask) -> Any:
    import pyarrow as pa
    from pyarrow import csv, json

    from jobs.parquet_file import read_parquet

    folder, _, name = task.data.rpartition("/")
    try:
        content = open_store(folder or ".").read(
            name, if_match=task.pin.etag, version=task.pin.version
        )
    except (PreconditionError, NotFoundError):
        raise SourceChangedError(
            f"{task.data} is no longer the pinned evaluation data ({task.pin.etag}). Nothing was "
            "published.",
            "run the same command again: it starts an attempt with the new data",
        ) from None
    except ClusterError:
        raise
    reader = pa.BufferReader(content)
    try:
        if name.endswith(".csv"):
            return csv.read_csv(reader, csv.ReadOptions(use_threads=False))
        if name.endswith((".jsonl", ".json")):
            return json.read_json(reader, json.ReadOptions(use_threads=False))
        return read_parquet(reader)
    except (pa.ArrowException, OSError) as error:
        reason = str(error).splitlines()[0]
        raise DataError(
            f"{task.data} is not a table that can be read: {reason:.200}", HINT
        ) from None


def _column(table: Any, name: str, task: EvaluationTask) -> list[Any]:
    names = table.column_names
    if name not in names:
        near = difflib.get_close_matches(name, names, n=1)
        meant = f"; did you mean {near[0]!r}?" if near else ""
        raise DataError(f"{task.data} has no column {name!r}, it has {names}{meant}", HINT)
    values: list[Any] = table.column(name).to_pylist()
    for row, value in enumerate(values):
        if value is None or value == "":
            raise DataError(f"{task.data}: column {name!r} is empty in row {row}", HINT)
        if name == task.text and not isinstance(value, str):
            raise DataError(f"{task.data}: column {name!r} is not text in row {row}", HINT)
    if not values:
        raise DataError(f"{task.data} has no rows", HINT)
    return values


def _make_ids(texts: Sequence[str], labels: Sequence[str]) -> list[str]:
    """Names from the content, so that an example keeps its own when the data grows."""
    seen: Counter[str] = Counter()
    ids = []
    for text, label in zip(texts, labels, strict=True):
        stem = hashlib.sha256(f"{text}\0{label}".encode(errors="replace")).hexdigest()[:16]
        seen[stem] += 1
        ids.append(stem if seen[stem] == 1 else f"{stem}-{seen[stem]}")
    return ids
