"""What is wrong with a recipe, in plain words, with the nearest key that exists."""

import difflib
from typing import Any, get_args


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
            near = difflib.get_close_matches(
                str(path[-1]), _known(kind, path[:-1]), n=1, cutoff=0.5
            )
            return f"{where}: unknown key" + (f"; did you mean {near[0]!r}?" if near else "")
        case "missing":
            return f"{where}: missing"
        case "literal_error":
            return f"{where}: expected {expected.get('expected')}, found {found}"
        case "value_error":
            return f"{where}: {expected.get('error')}"
        case "string_pattern_mismatch":
            return (
                f"{where}: expected lower-case letters, digits and '-' (at most 63), found {found}"
            )
        case "float_parsing" | "float_type" if path[-1:] == ("temperature",):
            return f"{where}: expected a number above 0 (auto is not offered yet), found {found}"
    message = str(entry["msg"]).replace("Input should be", "expected")
    return f"{where}: {message}, found {found}"


def _known(kind: Any, path: tuple[str | int, ...]) -> list[str]:
    """Keys that a mapping at `path` may have."""
    for part in path:
        if isinstance(part, int):
            continue
        fields = {field.alias or name: field for name, field in kind.model_fields.items()}
        inner = _find_block(fields[part].annotation) if part in fields else None
        if inner is None:
            return []
        kind = inner
    names = [field.alias or name for name, field in kind.model_fields.items()]
    return [name for name in names if "\0" not in name]


def _find_block(annotation: Any) -> Any:
    """The block in an annotation such as `Schedule | None` or `tuple[GuardRule, ...]`."""
    if hasattr(annotation, "model_fields"):
        return annotation
    return next(filter(None, map(_find_block, get_args(annotation))), None)
