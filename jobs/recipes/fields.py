"""Kinds of values in a recipe: numbers that are no truth values, and sizes as people write them."""

import re
from collections.abc import Mapping
from typing import Annotated, Any

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, WithJsonSchema
from pydantic_core import PydanticCustomError

from fusion.dtypes import parse_dtype
from jobs.console.sizes import BIT_RATES, COUNTS, SECONDS, SIZES

# By what they count: what may stand behind a number; "" where it may stand alone.
UNITS: Mapping[str, Mapping[str, int]] = {
    "seconds": {"": 1, **SECONDS}, "bytes": SIZES, "a count": COUNTS, "bits a second": BIT_RATES,
}  # fmt: skip


def _scaled(units: Mapping[str, int], example: str) -> BeforeValidator:
    def convert(value: Any) -> Any:
        if isinstance(value, bool) or not isinstance(value, str | int | float):
            raise ValueError(f"expected something like {example}, found {value!r}")  # noqa: TRY004
        match = re.fullmatch(r"\s*([0-9]+(?:\.[0-9]+)?)\s*([A-Za-z]*)\s*", str(value))
        if not match or match[2] not in units:
            raise ValueError(f"expected something like {example}, found {value!r}")
        return float(match[1]) * units[match[2]]

    return BeforeValidator(convert)


def _whole(units: Mapping[str, int], example: str) -> BeforeValidator:
    scaled = _scaled(units, example).func
    return BeforeValidator(lambda value: int(scaled(value)))  # type: ignore[call-arg]  # one-argument form


def read_dtype(value: Any) -> Any:
    """A dtype by any of its names."""
    return parse_dtype(str(value))


def read_several(value: Any) -> Any:
    """One entry is a list of one."""
    return [value] if isinstance(value, str) else value


def _number(value: Any) -> Any:
    """YAML's true is Python's 1; in a recipe it is no number."""
    if isinstance(value, bool):
        raise ValueError(f"expected a number, found {str(value).lower()}")  # noqa: TRY004
    return value


def wrong_at(key: str, text: str) -> PydanticCustomError:
    """A mistake that stands at one key of the block which found it."""
    return PydanticCustomError("value_error", "{error}", {"error": text, "at": key})


def _written(unit: str, example: str) -> WithJsonSchema:
    """What editors are told of a number with a unit of UNITS behind it, or of its own."""
    endings = "|".join(UNITS[unit])
    pattern = rf"^\s*[0-9]+(\.[0-9]+)?\s*({endings})\s*$"
    text = {"type": "string", "pattern": pattern, "examples": [example]}
    number = [{"type": "number", "minimum": 0}] if "" in UNITS[unit] else []
    return WithJsonSchema({"anyOf": [*number, text], "x-unit": unit})


def told(text: str, example: Any, **more: Any) -> Any:
    """A key of the recipe with what it changes and one example, for the reference and editors.

    Args:
        text: what the key changes, one or two sentences with the unit.
        example: a value as it is written in YAML.
        **more: constraints, as pydantic's `Field` takes them.
    """
    return Field(description=text, examples=[example], **more)


ONE_OR_SEVERAL: dict[str, Any] = {
    "anyOf": [
        {"type": "string", "minLength": 1},
        {"type": "array", "items": {"type": "string"}, "minItems": 1},
    ]
}
Whole = Annotated[int, BeforeValidator(_number)]
Number = Annotated[float, BeforeValidator(_number)]
Seconds = Annotated[float, _scaled(UNITS["seconds"], "10m"), _written("seconds", "10m")]
Bytes = Annotated[int, _whole(UNITS["bytes"], "1GiB"), _written("bytes", "1GiB")]
Count = Annotated[int, _whole(UNITS["a count"], "2B"), _written("a count", "2B")]
BitRate = Annotated[
    float, _scaled(UNITS["bits a second"], "10Gbit"), _written("bits a second", "10Gbit")
]
Several = Annotated[
    tuple[str, ...],
    BeforeValidator(read_several),
    Field(min_length=1),
    WithJsonSchema(ONE_OR_SEVERAL),
]
Share = Annotated[Number, Field(ge=0, le=1)]


class Block(BaseModel):
    """A part of a recipe: frozen, and nothing unknown in it."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=False, allow_inf_nan=False)
