"""Kinds of values in a recipe: numbers that are no truth values, and sizes as people write them."""

import re
from typing import Annotated, Any

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field
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


Whole = Annotated[int, BeforeValidator(_number)]
Number = Annotated[float, BeforeValidator(_number)]
Seconds = Annotated[float, _scaled({"": 1, **SECONDS}, "10m")]
Bytes = Annotated[int, _whole(SIZES, "1GiB")]
Count = Annotated[int, _whole(COUNTS, "2B")]
BitRate = Annotated[float, _scaled(BIT_RATES, "10Gbit")]
Share = Annotated[Number, Field(ge=0, le=1)]


class Block(BaseModel):
    """A part of a recipe: frozen, and nothing unknown in it."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=False, allow_inf_nan=False)
