"""Kinds of values in a recipe: numbers that are no truth values, and sizes as people write them."""

import re
from collections.abc import Iterable
from typing import Annotated, Any

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, WithJsonSchema
from pydantic_core import PydanticCustomError

from fusion.dtypes import parse_dtype
from jobs.console.sizes import BIT_RATES, COUNTS, SECONDS, SIZES


def _scaled(units: dict[str, int], example: str) -> BeforeValidator:
    def convert(value: Any) -> Any:
        if isinstance(value, bool) or not isinstance(value, str | int | float):
            raise ValueError(f"expected something like {example}, found {value!r}")  # noqa: TRY004
        match = re.fullmatch(r"\s*([0-9]+(?:\.[0-9]+)?)\s*([A-Za-z]*)\s*", str(value))
        if not match or match[2] not in units:
            raise ValueError(f"expected something like {example}, found {value!r}")
        return float(match[1]) * units[match[2]]

    return BeforeValidator(convert)


def _whole(units: dict[str, int], example: str) -> BeforeValidator:
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


def _written(unit: str, units: Iterable[str], example: str) -> WithJsonSchema:
    """What editors are told of a number that may have a unit behind it."""
    endings = "|".join(name for name in units if name)
    pattern = rf"^\s*[0-9]+(\.[0-9]+)?\s*({endings})?\s*$"
    text = {"type": "string", "pattern": pattern, "examples": [example]}
    return WithJsonSchema({"anyOf": [{"type": "number", "minimum": 0}, text], "x-unit": unit})


def told(text: str, example: Any, **more: Any) -> Any:
    """A key of the recipe with what it changes and one example, for the reference and editors.

    Args:
        text: what the key changes, one or two sentences with the unit.
        example: a value as it is written in YAML.
        **more: constraints, as pydantic's `Field` takes them.
    """
    return Field(description=text, examples=[example], **more)


Whole = Annotated[int, BeforeValidator(_number)]
Number = Annotated[float, BeforeValidator(_number)]
Seconds = Annotated[float, _scaled({"": 1, **SECONDS}, "10m"), _written("seconds", SECONDS, "10m")]
Bytes = Annotated[int, _whole(SIZES, "1GiB"), _written("bytes", SIZES, "1GiB")]
Count = Annotated[int, _whole(COUNTS, "2B"), _written("a count", COUNTS, "2B")]
BitRate = Annotated[
    float, _scaled(BIT_RATES, "10Gbit"), _written("bits a second", BIT_RATES, "10Gbit")
]
Share = Annotated[Number, Field(ge=0, le=1)]


class Block(BaseModel):
    """A part of a recipe: frozen, and nothing unknown in it."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=False, allow_inf_nan=False)
