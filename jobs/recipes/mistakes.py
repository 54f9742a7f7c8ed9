"""What is wrong with a recipe, in plain words, with the nearest key that exists."""

import re
from collections.abc import Iterator, Mapping
from typing import Any, get_args

from fusion.nearest import ask_meant, find_near

# What a wrong number or word at a key most often wants to say, and how that is said.
ADVICE: Mapping[str, str] = {
    "select.keep": "leave the key out to keep all",
    "select.max_parameters": "it counts parameters, max_bytes counts bytes",
    "weights.temperature": "a small one such as 0.01 gives nearly all weight to the best",
    "weights.values": "weights go by name: values: {a: 0.6, b: 0.4}",
    "gate": "a gate is not switched off; metafuse promote OUTPUT RUN promotes a held run by hand",
    "gate.alpha": "it is a chance: 0.05 is 5 percent",
    "gate.smallest_effect": "it is a difference of losses such as 0.01, not below 0; metafuse "
    "promote OUTPUT RUN promotes a held run by hand",
}
# Types of pydantic's errors, and what is expected then.
EXPECTED: Mapping[str, str] = {
    "greater_than": "a number above {gt:g}",
    "greater_than_equal": "at least {ge:g}",
    "less_than": "a number below {lt:g}",
    "less_than_equal": "at most {le:g}",
    "dict_type": "a mapping of keys",
    "model_type": "a mapping of keys",
    "model_attributes_type": "a mapping of keys",
    "int_parsing": "a whole number",
    "int_type": "a whole number",
    "int_from_float": "a whole number",
    "float_parsing": "a number",
    "float_type": "a number",
    "finite_number": "a finite number",
    "string_type": "a text",
    "bool_parsing": "true or false",
    "bool_type": "true or false",
}


def mistake_path(entry: Any) -> tuple[str | int, ...]:
    """Where a mistake stands in the document.

    Args:
        entry: one of pydantic's errors, as `ValidationError.errors()` gives them; `ctx["at"]` names
            a key below the block that found the mistake.
    """
    path = tuple(part for part in entry["loc"] if not str(part).startswith("function-"))
    at = entry.get("ctx", {}).get("at", "")
    below = (int(part) if part.isdigit() else part for part in at.split("."))
    return (*path, *below) if at else path


def describe_mistake(kind: Any, entry: Any) -> str:
    """One mistake in plain words.

    Args:
        kind: class of the whole document, with pydantic's `model_fields`.
        entry: one of pydantic's errors, as `ValidationError.errors()` gives them.
    """
    path = mistake_path(entry)
    where = ".".join(map(str, path)) or "recipe"
    expected = entry.get("ctx", {})
    found = repr(entry.get("input"))[:80]
    match entry["type"]:
        case "extra_forbidden":
            return f"{where}: unknown key{_guess_key(kind, path, entry.get('input'))}"
        case "missing":
            return f"{where}: missing"
        case "literal_error":
            return f"{where}: expected {expected.get('expected')}, found {found}"
        case "value_error":
            return f"{where}: {expected.get('error')}{_advise(where)}"
        case "string_pattern_mismatch":
            return (
                f"{where}: expected lower-case letters, digits and '-' (at most 63), found {found}"
            )
        case "float_parsing" | "float_type" if path[-1:] == ("temperature",):
            return f"{where}: expected a number above 0 (auto is not offered yet), found {found}"
    if entry["type"] in EXPECTED:
        words = EXPECTED[entry["type"]].format(**expected)
        return f"{where}: expected {words}, found {found}{_advise(where)}"
    message = str(entry["msg"]).replace("Input should be", "expected")
    return f"{where}: {message}, found {found}"


def _advise(where: str) -> str:
    return f"; {ADVICE[where]}" if where in ADVICE else ""


def _guess_key(kind: Any, path: tuple[str | int, ...], value: object) -> str:
    """What a key that does not exist may have been meant to be; "" where nothing is like it."""
    key, known = str(path[-1]), _known(kind, path[:-1])
    if re.fullmatch("[0-9]+", key) and value is None:
        return f"; decimals are written with a point: 0.{key}"
    places = [place for place in _walk(kind) if place.rpartition(".")[2] == key]
    if places and not find_near(key, known, likeness=0.8):
        return f"; did you mean {' or '.join(places)}?"
    return ask_meant(key, known, likeness=0.5)


def _walk(kind: Any, stem: str = "") -> Iterator[str]:
    """Every key of a document and its blocks, with points between."""
    for key in _names(kind):
        yield f"{stem}{key}"
        inner = _find_block(_fields(kind)[key].annotation)
        if inner is not None:
            yield from _walk(inner, f"{stem}{key}.")


def _known(kind: Any, path: tuple[str | int, ...]) -> list[str]:
    """Keys that a mapping at `path` may have."""
    for part in path:
        if isinstance(part, int):
            continue
        fields = _fields(kind)
        inner = _find_block(fields[part].annotation) if part in fields else None
        if inner is None:
            return []
        kind = inner
    return _names(kind)


def _fields(kind: Any) -> dict[str, Any]:
    return {field.alias or name: field for name, field in kind.model_fields.items()}


def _names(kind: Any) -> list[str]:
    return [name for name in _fields(kind) if "\0" not in name]


def _find_block(annotation: Any) -> Any:
    """The block in an annotation such as `Schedule | None` or `tuple[GuardRule, ...]`."""
    if hasattr(annotation, "model_fields"):
        return annotation
    return next(filter(None, map(_find_block, get_args(annotation))), None)
