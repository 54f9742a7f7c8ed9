"""Kinds of values in a recipe: numbers that are no truth values, and sizes as people write them."""

import re
from collections.abc import Mapping
from typing import Annotated, Any

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, WithJsonSchema
from pydantic_core import PydanticCustomError

from fusion.dtypes import parse_dtype
from jobs.console.sizes import BIT_RATES, COUNTS, SECONDS, SIZES

# By what they count: what may stand behind a number; "" where it may stand alone.
UNITS: Mapping[str, Mapping[str, int]] = {
    "seconds": {"": 1, **SECONDS}, "an age": SECONDS, "bytes": SIZES, "a count": COUNTS,
    "bits a second": BIT_RATES,
}  # fmt: skip


def _scaled(units: Mapping[str, int], what: str) -> BeforeValidator:
    def convert(value: Any) -> Any:
        if isinstance(value, bool) or not isinstance(value, str | int | float):
            raise ValueError(f"expected {what}, found {value!r}")  # noqa: TRY004
        match = re.fullmatch(r"\s*([0-9]+(?:\.[0-9]+)?)\s*([A-Za-z]*)\s*", str(value))
        if not match or match[2] not in units:
            raise ValueError(f"expected {what}, found {value!r}{_guess_time(str(value), units)}")
        return float(match[1]) * units[match[2]]

    return BeforeValidator(convert)


def _guess_time(text: str, units: Mapping[str, int]) -> str:
    """A time as clocks show it is not taken for one of its two readings."""
    clock = re.fullmatch(r"\s*([0-9]+):([0-5][0-9])\s*", text)
    if clock is None or "m" not in units or "h" not in units:
        return ""
    hours, minutes = int(clock[1]), int(clock[2])
    return f"; write {60 * hours + minutes}m for hours and minutes"


def _whole(units: Mapping[str, int], what: str) -> BeforeValidator:
    scaled = _scaled(units, what).func
    return BeforeValidator(lambda value: int(scaled(value)))  # type: ignore[call-arg]  # one-argument form


def read_dtype(value: Any) -> Any:
    """A dtype by any of its names."""
    return parse_dtype(str(value))


# A shell or a template engine would have put something there.
UNFILLED = re.compile(r"\$\{[^}]*\}|(?:^|(?<=/))\$[A-Za-z_]\w*|\{\{.*?\}\}|%[A-Z_]{3,}%")
ONE_SLASH = re.compile(r"(s3|s3a|s3n|gs|az|hf|https?|file):/([^/].*)")


def check_place(text: str) -> str:
    """A path or URI as it is written, if it can be meant so.

    Raises:
        ValueError: a variable that nobody filled in, or a URI with one slash too few.
    """
    found = UNFILLED.search(text)
    if found:
        raise ValueError(
            f"{text!r} holds {found[0]}: variables are not filled in here; write the path itself"
        )
    scheme = ONE_SLASH.fullmatch(text)
    if scheme:
        raise ValueError(f"{text!r} is no URI; did you mean '{scheme[1]}://{scheme[2]}'?")
    return text


def check_output_place(text: str) -> str:
    """As `check_place`, for what is found again by its name: one place, one spelling.

    Raises:
        ValueError: as `check_place` says, or two slashes within a URI.
    """
    scheme, separator, rest = check_place(text).partition("://")
    if separator and "//" in rest.removeprefix("/"):
        plain = re.sub("/+", "/", rest)
        raise ValueError(
            f"{text!r} has two slashes in a row, which is another place on S3; did you mean "
            f"'{scheme}://{plain.rstrip('/')}'?"
        )
    return text


def check_places(texts: tuple[str, ...]) -> tuple[str, ...]:
    """As `check_place`, for several."""
    for text in texts:
        check_place(text)
    return texts


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
Seconds = Annotated[
    float, _scaled(UNITS["seconds"], "a time such as 10m"), _written("seconds", "10m")
]
# Where a number alone is taken for days by many: what is removed by it is gone.
Age = Annotated[float, _scaled(UNITS["an age"], "an age such as 7d"), _written("an age", "7d")]
Bytes = Annotated[int, _whole(UNITS["bytes"], "bytes such as 1GiB"), _written("bytes", "1GiB")]
Count = Annotated[int, _whole(UNITS["a count"], "a count such as 2B"), _written("a count", "2B")]
BitRate = Annotated[
    float,
    _scaled(UNITS["bits a second"], "bits a second such as 10Gbit"),
    _written("bits a second", "10Gbit"),
]
Several = Annotated[
    tuple[str, ...],
    BeforeValidator(read_several),
    Field(min_length=1),
    AfterValidator(check_places),
    WithJsonSchema(ONE_OR_SEVERAL),
]
Share = Annotated[Number, Field(ge=0, le=1)]


class Block(BaseModel):
    """A part of a recipe: frozen, and nothing unknown in it."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=False, allow_inf_nan=False)
