"""Which columns of a table are meant for a kind of task: by their names, else by what they hold."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from fusion.scores.contract import Sort, TaskSpec
from jobs.tasks.labels import MOST_SHOWN, label_key
from jobs.tasks.table import Table

# What columns of public data sets are called, in the order of preference.
USUAL: Mapping[str, tuple[str, ...]] = {
    "text": (
        "text", "sentence", "sentence1", "premise", "question", "review", "content", "document",
        "tweet", "comment", "message", "body", "input", "utterance", "title",
    ),
    "text_pair": (
        "text_pair", "sentence2", "hypothesis", "question2", "passage", "context", "text_b",
    ),
    "label": (
        "label", "labels", "class", "category", "target", "sentiment", "stars", "rating", "intent",
        "score", "y",
    ),
    "id": ("id", "idx", "guid", "uid", "example_id"),
}  # fmt: skip
# First columns of pairs, by the second.
PAIRS = {"sentence2": "sentence1", "hypothesis": "premise", "question2": "question1"}
LOOKED_AT = 1000


def guess_columns(table: Table, spec: TaskSpec, labels: Sequence[str]) -> Mapping[str, str]:
    """The column of each role that one was found for, "id" among them.

    Args:
        table: the data.
        spec: the kind of task.
        labels: labels of the models; () where they have none.
    """
    names = [name for name in table.names if table.names.count(name) == 1]
    found: dict[str, str] = {}
    for role in reversed(tuple(spec.columns)):  # the truth first: it is the easier to tell
        left = [name for name in names if name not in found.values()]
        fits = _fitting(spec.columns[role], labels)
        chosen = _by_name(left, role, table, fits)
        if chosen is None and role not in spec.optional:
            chosen = _by_content(left, spec.columns[role], table, fits)
        if chosen is not None:
            found[role] = chosen
    first = PAIRS.get(found.get("text_pair", "").lower())
    for name in names:
        if name.lower() == first:
            found["text"] = name
    rows = table.num_rows
    for name in names:
        if name.lower() in USUAL["id"] and len({*map(str, table.cells(name))}) == rows:
            found.setdefault("id", name)
    order = (*spec.columns, "id")
    return {role: found[role] for role in order if role in found}


Fits = Callable[[Sequence[Any]], bool]


def _fitting(sort: Sort, labels: Sequence[str]) -> Fits:
    if sort == "text":
        return lambda cells: all(isinstance(cell, str) for cell in cells)
    if sort == "number":
        return lambda cells: all(
            isinstance(cell, int | float) and not isinstance(cell, bool) for cell in cells
        )
    most = max(MOST_SHOWN, len(labels))
    return lambda cells: 1 < len({label_key(cell) for cell in cells}) <= most


def _by_name(names: Sequence[str], role: str, table: Table, fits: Fits) -> str | None:
    for usual in USUAL.get(role, (role,)):
        for name in names:
            if name.strip().lower() == usual and fits(_cells(table, name)):
                return name
    return None


def _by_content(names: Sequence[str], sort: Sort, table: Table, fits: Fits) -> str | None:
    """The column with the longest texts, the fewest labels, or the only one of numbers."""
    fitting = {name: cells for name in names if fits(cells := _cells(table, name))}
    if not fitting:
        return None
    if sort == "text":
        return max(fitting, key=lambda name: sum(map(len, fitting[name])))
    if sort == "number":
        return next(iter(fitting)) if len(fitting) == 1 else None
    return min(fitting, key=lambda name: len({*map(label_key, fitting[name])}))


def _cells(table: Table, name: str) -> list[Any]:
    return [cell for cell in table.cells(name)[:LOOKED_AT] if cell is not None]
