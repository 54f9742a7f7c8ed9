"""Are the values of a mergekit document of the right kind? All mistakes at once, with lines."""

import math
from collections.abc import Iterator
from typing import Any

from jobs.errors import RecipeError
from jobs.recipes.strict_yaml import Document, Place

Problem = tuple[Place, str]
# Parameters that say yes or no; all others are numbers.
SWITCHES = ("normalize", "int8_mask", "rescale", "nuslerp_flatten", "nuslerp_row_wise")


def check_values(document: Document) -> None:
    """Refuse values that no merge could be computed with.

    Raises:
        RecipeError: has one line for each mistake, in line order.
    """
    found = sorted(_problems(document.value), key=lambda problem: document.line(problem[0]))
    if not found:
        return
    lines = [
        f"{document.name}:{document.line(path)}: {'.'.join(map(str, path)) or 'document'}: {text}"
        for path, text in found
    ]
    raise RecipeError("\n".join([*lines, "Nothing was read."]))


def _problems(table: Any) -> Iterator[Problem]:
    if not isinstance(table, dict):
        yield (), f"expected a mapping of keys, found {_shown(table)}"
        return
    for key in ("merge_method", "base_model", "dtype", "out_dtype"):
        value = table.get(key)
        if value is not None and (not isinstance(value, str) or not value):
            yield (key,), f"expected a word, found {_shown(value)}"
    yield from _parameters(table.get("parameters"), ("parameters",))
    models = table.get("models")
    if not isinstance(models, list) or not models:
        yield ("models",), "a list of models is needed"
        return
    for index, entry in enumerate(models):
        path: Place = ("models", index)
        if not isinstance(entry, dict) or not isinstance(entry.get("model"), str):
            yield path, f"expected model: PATH, found {_shown(entry)}"
            continue
        if not entry["model"].strip():
            yield (*path, "model"), "expected a path, found nothing"
        yield from _parameters(entry.get("parameters"), (*path, "parameters"))


def _parameters(table: Any, path: Place) -> Iterator[Problem]:
    if table is None:
        return
    if not isinstance(table, dict):
        yield path, f"expected a mapping such as {{weight: 0.5}}, found {_shown(table)}"
        return
    for key, value in table.items():
        yield from _setting(value, (*path, key), is_switch=key in SWITCHES)


def _setting(value: Any, path: Place, *, is_switch: bool) -> Iterator[Problem]:
    """A scalar, a gradient (list of scalars), or a list of filters with such values."""
    entries = [value] if isinstance(value, dict) else value
    if not isinstance(entries, list):
        if value is not None:
            yield from _scalar(value, path, is_switch=is_switch)
        return
    if not entries:
        yield path, "expected a number, a list of numbers or a list of filters, found []"
    elif not any(isinstance(entry, dict) for entry in entries):
        for index, entry in enumerate(entries):
            yield from _scalar(entry, (*path, index), is_switch=is_switch)
    else:
        for index, entry in enumerate(entries):
            place = path if isinstance(value, dict) else (*path, index)
            yield from _filter(entry, place, is_switch=is_switch)


def _filter(entry: Any, path: Place, *, is_switch: bool) -> Iterator[Problem]:
    if not isinstance(entry, dict) or "value" not in entry:
        yield path, f"expected filter: WORD and value: NUMBER, found {_shown(entry)}"
        return
    for key in entry:
        if key not in ("filter", "value"):
            yield (*path, key), "a filter has the keys filter and value alone"
    word = entry.get("filter")
    if word is not None and not isinstance(word, str):
        yield (*path, "filter"), f"expected a part of a tensor's name, found {_shown(word)}"
    inner = entry["value"]
    if isinstance(inner, dict) or (
        isinstance(inner, list) and any(isinstance(each, dict) for each in inner)
    ):
        yield (*path, "value"), "a filter's value holds no filters"
    elif inner is None:
        yield (*path, "value"), "expected a number, found nothing"
    else:
        yield from _setting(inner, (*path, "value"), is_switch=is_switch)


def _scalar(value: Any, path: Place, *, is_switch: bool) -> Iterator[Problem]:
    if is_switch and isinstance(value, bool):
        return
    if isinstance(value, bool) or not isinstance(value, int | float) or not _is_finite(value):
        kind = "true or false" if is_switch else "a finite number"
        yield path, f"expected {kind}, found {_shown(value)}"


def _is_finite(value: float) -> bool:
    try:
        return math.isfinite(value)
    except OverflowError:  # a whole number beyond every float
        return False


def _shown(value: Any) -> str:
    if value is None:
        return "nothing"
    return str(value).lower() if isinstance(value, bool) else f"{value!r:.60}"
