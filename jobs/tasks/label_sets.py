"""What the cells of a column of label sets mean to a model: decided once, over the whole file."""

import json
from collections.abc import Mapping, Sequence, Set

from fusion.nearest import ask_meant
from jobs.errors import DataError
from jobs.tasks.contract import Asked
from jobs.tasks.labels import label_key, read_mapping
from jobs.tasks.sniff import count_wrong

SEPARATORS = ("|", ";", ",")
BINARY = frozenset(("0", "1", "0.0", "1.0"))
FORMS = (
    'a set is a list of labels, such as ["a", "b"] or [], a text with | ; or , between them, or a '
    "0 or 1 for each of the model's labels"
)
LabelSet = tuple[int, ...]


def label_sets(cells: Sequence[object], asked: Asked) -> tuple[LabelSet, ...]:
    """Numbers of the labels of each example, in order, each once.

    A cell is a list of names or class numbers from 0, a JSON list as text, names with one of
    SEPARATORS between them, or a 0 or 1 for each of the model's labels; `task.labels` says what
    other names mean.

    Raises:
        DataError: a name that means nothing, a cell that is no set, or all sets alike.
    """
    names = [_names(cell, asked) for cell in cells]
    wrong = [row for row, found in enumerate(names) if found is None]
    if wrong:
        raise DataError(
            f"{asked.where}: column {asked.column!r} holds {cells[wrong[0]]!r:.80} in row "
            f"{_count(wrong, names, asked)}, which is no set of labels; nothing was evaluated",
            FORMS,
        )
    lists = [found or [] for found in names]
    if _are_flags(lists, len(asked.labels)):
        sets = [tuple(n for n, flag in enumerate(row) if float(str(flag))) for row in lists]
    else:
        sets = _numbered(lists, asked)
    if len(set(sets)) == 1:
        raise DataError(
            f"{asked.where}: all {len(sets):,} rows have the same labels, "
            f"{[asked.labels[n] for n in sets[0]]}, in column {asked.column!r}: nothing can be "
            "learnt of a model from that. Nothing was evaluated.",
            "bring examples of every label, or name the right column under task.columns.labels",
        )
    return tuple(sets)


def _names(cell: object, asked: Asked) -> list[object] | None:
    """The members of a cell as they stand there; None where it is no set."""
    if isinstance(cell, list | tuple):
        return None if any(isinstance(part, list | Mapping) for part in cell) else list(cell)
    if isinstance(cell, int) and not isinstance(cell, bool):
        return [cell]
    if not isinstance(cell, str):
        return None
    known = asked.mapping or asked.labels
    if cell in known:
        return [cell]
    if cell.lstrip().startswith("["):
        try:
            return _names(json.loads(cell), asked)
        except ValueError:
            return None
    between = next((sign for sign in SEPARATORS if sign in cell), None)
    return [part.strip() for part in cell.split(between)] if between else [cell.strip()]


def _are_flags(lists: Sequence[Sequence[object]], count: int) -> bool:
    """Whether every list says of every label whether it is true.

    Lists of one length that hold 0 and 1 alone could be class numbers only if none repeats one.
    """
    is_binary = all(
        len(row) == count and all(label_key(flag) in BINARY for flag in row) for row in lists
    )
    return is_binary and any(len(set(map(label_key, row))) < len(row) for row in lists)


def _numbered(lists: Sequence[Sequence[object]], asked: Asked) -> list[LabelSet]:
    table = _meanings({label_key(part) for parts in lists for part in parts}, asked)
    strange = [(row, label_key(p)) for row, parts in enumerate(lists) for p in parts
               if label_key(p) not in table]  # fmt: skip
    if strange:
        name = strange[0][1]
        meant = ask_meant(name, asked.mapping or asked.labels)
        rows = list(dict.fromkeys(row for row, _ in strange))
        raise DataError(
            f"{asked.where}: column {asked.column!r} holds {name!r:.80} in row "
            f"{_count(rows, lists, asked)}, which is not one of {list(table)[:10]}{meant or '.'} "
            "Nothing was evaluated.",
            f'say what it means: task: {{labels: {{{json.dumps(name)}: "?", ...}}}}; {FORMS}',
        )
    if "0" in table and not asked.mapping:
        _check_numbers(lists, asked)
    return [tuple(sorted({table[label_key(part)] for part in parts})) for parts in lists]


def _check_numbers(lists: Sequence[Sequence[object]], asked: Asked) -> None:
    """A class number that stands twice is a 0 or 1 for each of other labels than the model's."""
    twice = [row for row, parts in enumerate(lists) if len({*map(label_key, parts)}) < len(parts)]
    if twice:
        raise DataError(
            f"{asked.where}: column {asked.column!r} holds {list(lists[twice[0]])!r:.80} in row "
            f"{_count(twice, lists, asked)}, a number twice; a 0 or 1 for each label needs "
            f"{len(asked.labels)} of them. Nothing was evaluated.",
            FORMS,
        )


def _meanings(keys: Set[str], asked: Asked) -> Mapping[str, int]:
    """Class number by what stands in the data."""
    by_name = {name: number for number, name in enumerate(asked.labels)}
    by_number = {str(number): number for number in range(len(asked.labels))}
    if not asked.mapping:
        is_numbered = not keys <= by_name.keys() and keys <= by_number.keys() and "0" in keys
        return by_number if is_numbered else by_name
    return read_mapping(asked)


def _count(rows: list[int], all_rows: Sequence[object], asked: Asked) -> str:
    return count_wrong(rows, len(all_rows), first_line=asked.first_line)
