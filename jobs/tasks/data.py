"""Evaluation data: the columns of its table, its examples, the slices it must fill."""

import hashlib
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from fusion.nearest import ask_meant
from fusion.scores.contract import TaskSpec
from fusion.scores.records import SMALLEST_CLUSTERS
from fusion.scores.slices import SLICES
from jobs.errors import DataError
from jobs.tasks.contract import EvaluationTask
from jobs.tasks.slicing import Slices
from jobs.tasks.sniff import count_wrong
from jobs.tasks.table import HINT, Table

# Clusters: one to rank by; an error of the difference is known from two on.
SMALLEST_SLICES = {"rank": 1, "gate": SMALLEST_CLUSTERS}
COLUMNS_HINT = (
    "this is how pandas writes a table column by column: write rows, "
    'frame.to_json(path, orient="records")'
)

HEADER_HINT = (
    "set task.columns; if the first line is data already, put a header with the names above it; "
    "nothing was evaluated"
)
REPEATED = (
    "keep one of each group of texts that share most of their words, or name under "
    "task.columns.cluster the column that binds them: a cluster is in one slice"
)


@dataclass(frozen=True, slots=True)
class Examples:
    """n examples, in the order of the file.

    Attributes:
        inputs: what a model reads of each example, by role.
        texts: all texts of each example, joined into one.
        cells: cells of the truth's column, as in the file.
        sliced: ids, clusters and slices of the examples.
        written: the cells as they are written, where that is something else; else ().
        first_line: number of the line of row 0, where each row is a line of the one file; else 0.
    """

    inputs: tuple[Mapping[str, object], ...]
    texts: tuple[str, ...]
    cells: tuple[object, ...]
    sliced: Slices
    written: tuple[str, ...] = ()
    first_line: int = 0

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


def read_column(table: Table, task: EvaluationTask, role: str, spec: TaskSpec) -> list[Any]:
    """Values of the column of a role, "id" or "cluster" too; none of them empty.

    Texts are as they are written; what else a format without types holds is as pyarrow guesses it,
    unless the guess makes nothing of a value that stands there.

    Raises:
        DataError: no such column, or values are missing: the error counts them and shows three.
    """
    name = {"id": task.id, "cluster": task.cluster, **task.columns}[role]
    check_column(table, task.data, name)
    is_text = spec.columns.get(role) == "text"
    values = table.written(name) if is_text else table.cells(name)
    if any(value is None for value in values):
        values = table.written(name)
    if not values:
        raise DataError(f"{task.data} has no rows", HINT)
    empty = [row for row, value in enumerate(values) if _is_empty(value, is_text=is_text)]
    wrong = [row for row, value in enumerate(values) if is_text and not isinstance(value, str)]
    for rows, what in ((empty, "empty"), (wrong, "not text")):
        if rows:
            shown = count_wrong(rows, len(values), place=table.place, first_line=table.first_line)
            found = "" if rows is empty else f"; {_describe_kind(values[rows[0]])} stands there"
            hint = COLUMNS_HINT if len(values) == 1 and isinstance(values[0], Mapping) else HINT
            raise DataError(f"{task.data}: column {name!r} is {what} in row {shown}{found}", hint)
    return values


def _is_empty(value: object, *, is_text: bool) -> bool:
    return value is None or value == "" or (is_text and isinstance(value, str) and value.isspace())


def _describe_kind(value: object) -> str:
    kinds = {list: "a list", dict: "an object", bytes: "binary data (bytes)", bool: "a truth value"}
    return kinds.get(type(value), f"a value of type {type(value).__name__}")


def check_column(table: Table, where: str, name: str) -> None:
    """Refuse a table that does not have a column, or has two of its name.

    Raises:
        DataError: names the columns that there are.
    """
    names = list(table.names)
    if names.count(name) > 1:
        raise DataError(
            f"{where} has {names.count(name)} columns called {name!r}: {names}",
            "rename all but the one that is meant; nothing was evaluated",
        )
    if name not in names:
        meant = ask_meant(name, names)
        is_headed = table.first_line > 1 and not meant
        hint = HEADER_HINT if is_headed else HINT
        raise DataError(f"{where} has no column {name!r}, it has {names}{meant}", hint)


def make_ids(texts: Sequence[str], labels: Sequence[object]) -> list[str]:
    """Names from the content, so that an example keeps its own when the data grows."""
    seen: Counter[str] = Counter()
    ids = []
    for text, label in zip(texts, labels, strict=True):
        stem = hashlib.sha256(f"{text}\0{label}".encode(errors="replace")).hexdigest()[:16]
        seen[stem] += 1
        ids.append(stem if seen[stem] == 1 else f"{stem}-{seen[stem]}")
    return ids
