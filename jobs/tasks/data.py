"""Evaluation data: a pinned table, its columns, its examples."""

import difflib
import hashlib
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from cluster.errors import ClusterError, NotFoundError, PreconditionError
from cluster.stores.open_store import open_store
from fusion.checkpoints.checkpoint import Pin
from fusion.scores.contract import TaskSpec
from fusion.scores.records import SMALLEST_CLUSTERS
from fusion.scores.slices import SLICES
from jobs.candidates.changes import changed, make_pin
from jobs.errors import DataError
from jobs.tasks.contract import EvaluationTask
from jobs.tasks.slicing import Slices

# Clusters: one to rank by; an error of the difference is known from two on.
SMALLEST_SLICES = {"rank": 1, "gate": SMALLEST_CLUSTERS}


NO_DATA = "check the path or URI under task.data; nothing was evaluated"
REPEATED = (
    "keep one of each group of texts that share most of their words, or name under "
    "task.columns.cluster the column that binds them: a cluster is in one slice"
)
HINT = "set task.columns, or fix the data; nothing was evaluated"


@dataclass(frozen=True, slots=True)
class Examples:
    """n examples, in the order of the file.

    Attributes:
        inputs: what a model reads of each example, by role.
        texts: all texts of each example, joined into one.
        cells: cells of the truth's column, as in the file.
        sliced: ids, clusters and slices of the examples.
    """

    inputs: tuple[Mapping[str, object], ...]
    texts: tuple[str, ...]
    cells: tuple[object, ...]
    sliced: Slices

    @property
    def ids(self) -> tuple[str, ...]:
        """Unique names."""
        return self.sliced.ids

    @property
    def clusters(self) -> tuple[str, ...]:
        """Short digest of what binds examples together."""
        return self.sliced.clusters

    @property
    def slices(self) -> tuple[str, ...]:
        """Slice of each example, "" for dropped near-duplicates."""
        return self.sliced.names

    def rows(self, name: str) -> list[int]:
        """Indices of one slice."""
        return self.sliced.rows(name)


def pin_data(uri: str) -> Pin:
    """Which bytes of the evaluation data are meant.

    Raises:
        DataError: no such file.
    """
    folder, _, name = uri.rpartition("/")
    try:
        store = open_store(folder or ".")
        return make_pin(store, store.head(name))
    except NotFoundError:
        raise DataError(f"task.data: {uri} does not exist", NO_DATA) from None


def check_slices(sliced: Slices, task: EvaluationTask) -> None:
    """Refuse data whose clusters are too few to rank candidates and to judge a model.

    Raises:
        DataError: a slice has too few clusters; the error names the clusters of every slice.
    """
    pairs = set(zip(sliced.names, sliced.clusters, strict=True))
    counts = {name: sum(own == name for own, _ in pairs) for name in SLICES}
    lacking = [name for name, least in SMALLEST_SLICES.items() if counts[name] < least]
    if not lacking:
        return
    name, total = lacking[0], len({cluster for _, cluster in pairs})
    what = f"column {task.cluster!r}" if task.cluster else "each text is one"
    each = ", ".join(f"{name} {count}" for name, count in counts.items())
    share = "" if task.shares[name] > 0 else f", and task.slices.{name} is 0"
    said = (
        f"{task.data}: {total} clusters ({what}) for {len(SLICES)} slices: {each}; the {name} "
        f"slice needs at least {SMALLEST_SLICES[name]}{share}"
    )
    if name == "rank" and sliced.repeated_rank:
        raise DataError(
            f"{said}. {sliced.repeated_rank} of its examples were left out, as they nearly repeat "
            "one of another slice. Nothing was evaluated.",
            REPEATED,
        )
    raise DataError(
        f"{said}. Nothing was evaluated.",
        "a cluster is never split: name a finer column under task.columns.cluster, leave it out "
        f"so that every text is its own, or give task.slices.{name} a larger share",
    )


def read_table(task: EvaluationTask) -> Any:
    """The pinned table.

    Raises:
        DataError: the table cannot be read.
        SourceChangedError: the table is no longer what was pinned.
    """
    import pyarrow as pa
    from pyarrow import csv, json

    from jobs.outputs.parquet_file import read_parquet

    folder, _, name = task.data.rpartition("/")
    store = open_store(folder or ".")
    try:
        content = store.read(name, if_match=task.pin.etag, version=task.pin.version)
    except (PreconditionError, NotFoundError):
        raise changed(store, name, task.pin) from None
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


def read_column(table: Any, task: EvaluationTask, role: str, spec: TaskSpec) -> list[Any]:
    """Values of the column of a role, "id" or "cluster" too; none of them empty.

    Raises:
        DataError: no such column, or a value is missing.
    """
    name = {"id": task.id, "cluster": task.cluster, **task.columns}[role]
    is_text = spec.columns.get(role) == "text"
    names = table.column_names
    if name not in names:
        near = difflib.get_close_matches(name, names, n=1)
        meant = f"; did you mean {near[0]!r}?" if near else ""
        raise DataError(f"{task.data} has no column {name!r}, it has {names}{meant}", HINT)
    values: list[Any] = table.column(name).to_pylist()
    for row, value in enumerate(values):
        if value is None or value == "":
            raise DataError(f"{task.data}: column {name!r} is empty in row {row}", HINT)
        if is_text and not isinstance(value, str):
            raise DataError(f"{task.data}: column {name!r} is not text in row {row}", HINT)
    if not values:
        raise DataError(f"{task.data} has no rows", HINT)
    return values


def make_ids(texts: Sequence[str], labels: Sequence[object]) -> list[str]:
    """Names from the content, so that an example keeps its own when the data grows."""
    seen: Counter[str] = Counter()
    ids = []
    for text, label in zip(texts, labels, strict=True):
        stem = hashlib.sha256(f"{text}\0{label}".encode(errors="replace")).hexdigest()[:16]
        seen[stem] += 1
        ids.append(stem if seen[stem] == 1 else f"{stem}-{seen[stem]}")
    return ids
