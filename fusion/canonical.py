"""Frozen dataclasses <-> canonical JSON: one value, one text, one digest."""

import functools
import hashlib
import json
import math
import sys
import types
import typing
from collections.abc import Mapping
from dataclasses import MISSING, fields, is_dataclass
from typing import Any, TypeVar, cast

from fusion.errors import ManifestError

SCHEMA = 1


Value = TypeVar("Value")
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
    return cast(Value, _typed(kind, raw, kind.__name__))


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise ValueError("a key occurs twice in one object")
    return found


def _refuse_constant(name: str) -> Any:
    raise ValueError(f"{name} is not a JSON number")


def _plain(value: object) -> object:
    if is_dataclass(value) and not isinstance(value, type):
        return {f.name: _plain(getattr(value, f.name)) for f in fields(value)}
    if isinstance(value, Mapping):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    if isinstance(value, float) and not math.isfinite(value):
        return "nan" if math.isnan(value) else "inf" if value > 0 else "-inf"
    return value


def _typed(kind: Any, raw: Any, where: str) -> Any:
    origin = typing.get_origin(kind)
    if is_dataclass(kind):
        return _typed_dataclass(kind, raw, where)
    if origin in (types.UnionType, typing.Union):
        return _typed_union(kind, raw, where)
    if origin is tuple:
        return _typed_tuple(typing.get_args(kind), raw, where)
    if origin is not None and issubclass(_class_of(origin), Mapping):
        _check(isinstance(raw, dict), where, "an object", raw)
        item = typing.get_args(kind)[1]
        return {key: _typed(item, value, f"{where}.{key}") for key, value in raw.items()}
    if origin is typing.Literal:
        allowed = typing.get_args(kind)
        _check(isinstance(raw, str) and raw in allowed, where, f"one of {allowed}", raw)
        return raw
    return _typed_scalar(kind, raw, where)


def _typed_scalar(kind: Any, raw: Any, where: str) -> Any:
    if kind is object:
        return raw
    if kind is float:
        if isinstance(raw, str) and raw in NOT_FINITE:
            return NOT_FINITE[raw]
        _check(isinstance(raw, int | float) and not isinstance(raw, bool), where, "a number", raw)
        _check(abs(raw) <= sys.float_info.max, where, "a number in the range of float64", raw)
        return float(raw)
    right = isinstance(raw, kind) and (kind is bool or not isinstance(raw, bool))
    _check(right, where, kind.__name__, raw)
    return raw


def _class_of(origin: Any) -> type:
    return origin if isinstance(origin, type) else type(None)


def _typed_dataclass(kind: Any, raw: Any, where: str) -> Any:
    # A class that older releases stored in another shape says how to read it.
    raw = kind.from_older(raw) if hasattr(kind, "from_older") else raw
    _check(isinstance(raw, dict), where, "an object", raw)
    hints = _hints(kind)
    names = {f.name for f in fields(kind)}
    needed = {f.name for f in fields(kind) if f.default is f.default_factory is MISSING}
    _check(needed <= set(raw) <= names, where, f"fields {sorted(names)}", sorted(raw))
    return kind(**{name: _typed(hints[name], raw[name], f"{where}.{name}") for name in raw})


@functools.cache
def _hints(kind: Any) -> Mapping[str, Any]:
    return typing.get_type_hints(kind)


def _typed_union(kind: Any, raw: Any, where: str) -> Any:
    members = typing.get_args(kind)
    if raw is None:
        _check(type(None) in members, where, str(kind), raw)
        return None
    others = [member for member in members if member is not type(None)]
    _check(len(others) == 1, where, "an optional value", kind)
    return _typed(others[0], raw, where)


def _typed_tuple(members: tuple[Any, ...], raw: Any, where: str) -> tuple[Any, ...]:
    _check(isinstance(raw, list), where, "a list", raw)
    if len(members) == 2 and members[1] is Ellipsis:
        return tuple(_typed(members[0], item, f"{where}[{i}]") for i, item in enumerate(raw))
    _check(len(raw) == len(members), where, f"{len(members)} entries", raw)
    pairs = zip(members, raw, strict=True)
    return tuple(_typed(member, item, f"{where}[{i}]") for i, (member, item) in enumerate(pairs))


def _check(condition: bool, where: str, expected: str, found: object) -> None:
    if not condition:
        raise ManifestError(f"{where}: expected {expected}, found {found!r:.200}")
