"""What the values of a label column mean to a model: decided once, over the whole file."""

import json
import re
from collections.abc import Collection, Iterable, Mapping, Sequence

from fusion.nearest import ask_meant, find_near
from jobs.errors import DataError
from jobs.tasks.contract import Asked
from jobs.tasks.sniff import count_wrong

MOST_SHOWN = 60
MOST_ASKED = 3  # values that are no label
WHOLE = re.compile(r"0|[1-9][0-9]*")


def class_numbers(cells: Sequence[object], asked: Asked) -> tuple[int, ...]:
    """Class numbers of the labels of a whole file.

    Either `task.labels` says what each value means, or all values are names of the model's labels,
    or all are whole numbers from 0 to c - 1, of which 0 occurs: numbers that begin with 1 may be
    shifted by one class, which no loss would tell. Names are looked for as they are written first:
    in a format without types, 007 and true are texts until they mean nothing as such.

    Args:
        cells: n cells of the truth's column, none empty.
        asked: the model's labels, the recipe's mapping.

    Raises:
        DataError: anything else, with the mapping that would mend it.
    """
    keys = [label_key(cell) for cell in cells]
    if asked.written and _are_known(asked.written, asked):
        keys, cells = list(asked.written), asked.written
    if asked.mapping:
        return _mapped(keys, asked)
    by_name = {name: number for number, name in enumerate(asked.labels)}
    by_number = {str(number): number for number in range(len(asked.labels))}
    # A truth value or a fraction is no name and no number of a class, however it is written.
    is_plain = not any(isinstance(cell, bool | float) for cell in cells)
    if is_plain and all(key in by_name for key in keys):
        return tuple(by_name[key] for key in keys)
    is_numbered = is_plain and all(key in by_number for key in keys)
    if is_numbered and "0" in keys:
        return tuple(by_number[key] for key in keys)
    raise _unknown(cells, keys, asked, is_numbered=is_numbered)


def _are_known(written: Sequence[str], asked: Asked) -> bool:
    known = set(asked.mapping or asked.labels)
    return known.issuperset(written)


def label_key(cell: object) -> str:
    """How a value is written in a recipe: 1 for a whole number, 1.0 for a float, true, a text."""
    return str(cell).lower() if isinstance(cell, bool) else str(cell)


def read_mapping(asked: Asked) -> Mapping[str, int]:
    """Number of the class that each value means by `task.labels`.

    Raises:
        DataError: a meaning that the model does not have.
    """
    by_name = {name: number for number, name in enumerate(asked.labels)}
    table: dict[str, int] = {}
    for key, wanted in asked.mapping.items():
        number = by_name.get(wanted) if isinstance(wanted, str) else wanted
        if number is None or not 0 <= number < len(asked.labels):
            meant = ask_meant(str(wanted), asked.labels)
            raise DataError(
                f"task.labels.{key}: {wanted!r} is not one of the model's {len(asked.labels)} "
                f"labels {_shorten(asked.labels)}{meant or '.'} Nothing was evaluated.",
                "values of task.labels are names of the model's labels, or class numbers from 0",
            )
        table[key] = number
    return table


def _mapped(keys: Sequence[str], asked: Asked) -> tuple[int, ...]:
    table = read_mapping(asked)
    lacking = [row for row, key in enumerate(keys) if key not in table]
    if lacking:
        names = sorted({keys[row] for row in lacking})
        raise DataError(
            f"{asked.where}: column {asked.column!r} holds {_shorten(names)}, which task.labels "
            f"does not name; row {count_wrong(lacking, len(keys), first_line=asked.first_line)}; "
            f"nothing was evaluated{_ask_meant(names, asked.mapping)}",
            "add them to task.labels",
        )
    return tuple(table[key] for key in keys)


def _unknown(
    cells: Sequence[object], keys: Sequence[str], asked: Asked, *, is_numbered: bool
) -> DataError:
    distinct = dict(zip(keys, cells, strict=True))
    if is_numbered:
        what = "whole numbers of which none is 0, so they may count from 1"
    else:
        what = _describe_unknown(cells, keys, asked)
    text = (
        f"{asked.where}: column {asked.column!r} holds {what}; the model has {len(asked.labels)} "
        f"labels, {_shorten(asked.labels)}{_ask_meant(distinct, asked.labels) or '.'} Nothing was "
        "evaluated."
    )
    if asked.column in keys and asked.column not in asked.labels:
        return DataError(text, "that row repeats the header, as files do that were joined: take it "
                               "out")  # fmt: skip
    if len(distinct) > MOST_SHOWN:
        return DataError(
            text,
            f"the column has {len(distinct)} different values; name the right one under "
            "task.columns.label, or say in task.labels what each value means",
        )
    return DataError(text, f"if this is what they mean, put it into the recipe: "
                           f"{format_mapping(distinct, asked.labels)}")  # fmt: skip


def _describe_unknown(cells: Sequence[object], keys: Sequence[str], asked: Asked) -> str:
    """Three of the values that are no label, with their rows, and in how many rows such stand."""
    rows = [row for row, cell in enumerate(cells) if isinstance(cell, bool | float)]
    rows = rows or [row for row, key in enumerate(keys) if key not in asked.labels] or [0]
    first: dict[str, int] = {}
    for row in rows:
        first.setdefault(keys[row], row)
    shown = ", ".join(
        f"{cells[row]!r:.80} (row {count_wrong([row], len(cells), first_line=asked.first_line)})"
        for row in list(first.values())[:3]
    )
    if len(rows) == 1:
        return f"{shown}, which is not one of the model's labels"
    more = ", ..." if len(first) > 3 else ""
    return (
        f"{shown}{more}, which are not among the model's labels, in {len(rows):,} of "
        f"{len(cells):,} rows"
    )


def _ask_meant(values: Iterable[str], known: Collection[str]) -> str:
    """Asks which names the first values that are none may be; "" where none is near.

    A value with digits is like every other with digits, so it is not asked about.
    """
    words = [value for value in values if value not in known and not re.search(r"\d", value)]
    near = [name for word in words[:MOST_ASKED] for name in find_near(word, known)]
    return f"; did you mean {', '.join(map(repr, dict.fromkeys(near)))}?" if near else ""


def format_mapping(distinct: Mapping[str, object], labels: Sequence[str]) -> str:
    """`task: {labels: {1: "1 star", ...}}`, ready to be pasted; "?" where nothing is near."""
    entries = (f"{key}: {meaning}" for key, meaning in write_meanings(distinct, labels))
    return "task: {labels: {" + ", ".join(entries) + "}}"


def write_meanings(
    distinct: Mapping[str, object], labels: Sequence[str]
) -> Sequence[tuple[str, str]]:
    """(value, what it most likely means) in YAML, in order; a meaning is "?" where none is near.

    Args:
        distinct: cells by `label_key`.
        labels: the model's labels.
    """
    meant = _guess(distinct, labels)
    order = sorted(distinct, key=lambda key: (not _is_number(key), _number(key), key))
    return [
        (_yaml(key, distinct[key]), json.dumps(meant.get(key, "?"), ensure_ascii=False))
        for key in order
    ]


def _guess(distinct: Mapping[str, object], labels: Sequence[str]) -> Mapping[str, str]:
    """What each value most likely means: by its name, by a number in a name, by counting."""
    folded = {label.strip().casefold(): label for label in labels}
    by_name = {key: folded[name] for key in distinct if (name := key.strip().casefold()) in folded}
    if by_name:
        return by_name
    if all(isinstance(cell, bool) for cell in distinct.values()):
        return dict(zip(("false", "true"), labels, strict=False))
    if not all(_is_number(key) and _number(key).is_integer() for key in distinct):
        return {}
    digits = {
        numbers[0]: label for label in labels if len(numbers := re.findall(r"\d+", label)) == 1
    }
    wanted = {key: int(_number(key)) for key in distinct}
    is_generic = all(re.fullmatch(r"LABEL_[0-9]+", label) for label in labels)
    if not is_generic and all(str(number) in digits for number in wanted.values()):
        return {key: digits[str(number)] for key, number in wanted.items()}
    first = 0 if 0 in wanted.values() else 1
    if min(wanted.values()) < first:
        return {}  # counted otherwise, such as -1 and 1: half a guess tempts to a wrong other half
    return {
        key: labels[number - first]
        for key, number in wanted.items()
        if number - first < len(labels)
    }


def _is_number(key: str) -> bool:
    return re.fullmatch(r"-?[0-9]+(\.[0-9]+)?", key) is not None


def _number(key: str) -> float:
    return float(key) if _is_number(key) else 0.0


def _yaml(key: str, cell: object) -> str:
    return key if not isinstance(cell, str) else json.dumps(key, ensure_ascii=False)


def _shorten(names: Sequence[str]) -> str:
    shown = ", ".join(repr(name)[:60] for name in names[:10])
    return shown + (", ..." if len(names) > 10 else "")
