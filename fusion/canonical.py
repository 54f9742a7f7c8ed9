"""Frozen dataclasses <-> canonical JSON: one value, one text, one digest."""

import functools
import hashlib
import itertools
import json
import math
import sys
import types
import typing
from collections.abc import Callable, Iterable, Mapping
from dataclasses import MISSING, fields, is_dataclass
from typing import Any, TypeVar, cast

from fusion.errors import ManifestError

SCHEMA = 1

Value = TypeVar("Value")
Reader = Callable[[Any], Any]
WRITTEN_AS_IT_IS = frozenset((str, int, bool, type(None)))
NOT_FINITE = {"nan": math.nan, "inf": math.inf, "-inf": -math.inf}


def digest(content: bytes) -> str:
    """Hex sha256."""
    return hashlib.sha256(content).hexdigest()


def to_json(value: object) -> bytes:
    """Canonical JSON of nested dataclasses, tuples, mappings and plain values.

    Keys are sorted, separators are tight, the text ends with a newline and is ASCII. Numbers that
    are not finite become the strings "nan", "inf" and "-inf", so the JSON is strict.
    """
    plain = _plain(value)
    return (
        json.dumps(plain, sort_keys=True, separators=(",", ":"), allow_nan=False).encode() + b"\n"
    )


def from_json(kind: type[Value], content: bytes) -> Value:
    """The value that `to_json` wrote, in this release or an earlier one.

    A field that is missing has its default: the release that wrote the value did not know it.

    Stricter than `json.loads`: a key given twice, NaN written as a number, and numbers out of range
    are refused, so that two readers of one text can't see two values.

    Raises:
        ManifestError: not JSON, fields without a default missing, fields unknown or of the wrong
            type, or another schema version.
    """
    try:
        raw = json.loads(content, object_pairs_hook=_unique, parse_constant=_refuse_constant)
    except (ValueError, RecursionError) as error:
        raise ManifestError(f"{kind.__name__} is not JSON: {error}") from None
    schema = next((f.default for f in fields(cast(Any, kind)) if f.name == "schema"), None)
    if schema is not None and (not isinstance(raw, dict) or raw.get("schema") != schema):
        found = raw.get("schema") if isinstance(raw, dict) else type(raw).__name__
        raise ManifestError(
            f"{kind.__name__} has schema {found}, this version of metafuse reads {schema}",
            "use the version of metafuse that wrote it, or a newer one",
        )
    try:
        return cast(Value, _reader(cast(Any, kind))(raw))
    except _Mismatch as mismatch:
        raise ManifestError(f"{kind.__name__}{mismatch.path}: {mismatch.problem}") from None


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise ValueError("a key occurs twice in one object")
    return found


def _refuse_constant(name: str) -> Any:
    raise ValueError(f"{name} is not a JSON number")


def _plain(value: object) -> object:
    kind: Any = type(value)
    if kind in WRITTEN_AS_IT_IS:
        return value
    names = _field_names(kind)
    if names is not None:
        return {name: _plain(getattr(value, name)) for name in names}
    if isinstance(value, Mapping):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    if isinstance(value, float) and not math.isfinite(value):
        return "nan" if math.isnan(value) else "inf" if value > 0 else "-inf"
    return value


@functools.cache
def _field_names(kind: type) -> tuple[str, ...] | None:
    """Of a dataclass; None of any other type."""
    return tuple(f.name for f in fields(kind)) if is_dataclass(kind) else None


class _Mismatch(Exception):
    """A value that is not of its type; on its way up it gathers the path to the value."""

    def __init__(self, expected: str, found: object) -> None:
        super().__init__(expected)
        self.problem = f"expected {expected}, found {found!r:.200}"
        self.path = ""

    def under(self, step: str) -> "_Mismatch":
        self.path = step + self.path
        return self


@functools.cache
def _reader(kind: Any) -> Reader:
    """What makes a value of a type from plain JSON; raises `_Mismatch`."""
    origin, arguments = typing.get_origin(kind), typing.get_args(kind)
    if is_dataclass(kind):
        return functools.partial(_read_dataclass, kind)
    if origin in (types.UnionType, typing.Union):
        return _read_optional(kind, arguments)
    if origin is tuple and len(arguments) == 2 and arguments[1] is Ellipsis:
        return functools.partial(_read_items, _reader(arguments[0]))
    if origin is tuple:
        return functools.partial(_read_entries, tuple(map(_reader, arguments)))
    if isinstance(origin, type) and issubclass(origin, Mapping):
        return functools.partial(_read_mapping, _reader(arguments[1]))
    if origin is typing.Literal:
        return functools.partial(_read_choice, arguments)
    if kind is object:
        return lambda raw: raw
    return _read_float if kind is float else functools.partial(_read_scalar, kind)


def _read_float(raw: Any) -> float:
    if isinstance(raw, str) and raw in NOT_FINITE:
        return NOT_FINITE[raw]
    if not isinstance(raw, int | float) or isinstance(raw, bool):
        raise _Mismatch("a number", raw)
    if abs(raw) > sys.float_info.max:
        raise _Mismatch("a number in the range of float64", raw)
    return float(raw)


def _read_scalar(kind: type, raw: Any) -> Any:
    if not isinstance(raw, kind) or (kind is not bool and isinstance(raw, bool)):
        raise _Mismatch(kind.__name__, raw)
    return raw


def _read_choice(allowed: tuple[Any, ...], raw: Any) -> Any:
    if not isinstance(raw, str) or raw not in allowed:
        raise _Mismatch(f"one of {allowed}", raw)
    return raw


def _read_optional(kind: Any, members: tuple[Any, ...]) -> Reader:
    others = [member for member in members if member is not type(None)]
    if len(others) != 1:
        raise _Mismatch("an optional value", kind)
    read = _reader(others[0])
    return lambda raw: None if raw is None else read(raw)


@functools.cache
def _fields(kind: Any) -> tuple[Mapping[str, Reader], frozenset[str]]:
    """Readers of a dataclass' fields by name, and the names of those without a default."""
    hints = typing.get_type_hints(kind)
    needed = (f.name for f in fields(kind) if f.default is f.default_factory is MISSING)
    return {f.name: _reader(hints[f.name]) for f in fields(kind)}, frozenset(needed)


def _read_dataclass(kind: Any, raw: Any) -> Any:
    # A class that older releases stored in another shape says how to read it.
    raw = kind.from_older(raw) if hasattr(kind, "from_older") else raw
    if not isinstance(raw, dict):
        raise _Mismatch("an object", raw)
    readers, needed = _fields(kind)
    if not needed <= raw.keys() <= readers.keys():
        raise _Mismatch(f"fields {sorted(readers)}", sorted(raw))
    return kind(**_read_values(readers.__getitem__, raw))


def _read_mapping(read: Reader, raw: Any) -> dict[str, Any]:
    if not isinstance(raw, dict):
        raise _Mismatch("an object", raw)
    return _read_values(lambda _: read, raw)


def _read_values(reader_of: Callable[[str], Reader], raw: dict[str, Any]) -> dict[str, Any]:
    found = {}
    for name, value in raw.items():
        try:
            found[name] = reader_of(name)(value)
        except _Mismatch as mismatch:
            raise mismatch.under(f".{name}") from None
    return found


def _read_items(read: Reader, raw: Any) -> tuple[Any, ...]:
    if not isinstance(raw, list):
        raise _Mismatch("a list", raw)
    return _read_list(itertools.repeat(read), raw)


def _read_entries(readers: tuple[Reader, ...], raw: Any) -> tuple[Any, ...]:
    if not isinstance(raw, list):
        raise _Mismatch("a list", raw)
    if len(raw) != len(readers):
        raise _Mismatch(f"{len(readers)} entries", raw)
    return _read_list(readers, raw)


def _read_list(readers: Iterable[Reader], raw: list[Any]) -> tuple[Any, ...]:
    found: list[Any] = []
    try:
        for read, item in zip(readers, raw, strict=False):
            found.append(read(item))
    except _Mismatch as mismatch:
        raise mismatch.under(f"[{len(found)}]") from None
    return tuple(found)
