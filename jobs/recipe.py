"""The user's YAML as frozen values: everything that changes the result, all mistakes at once."""

import difflib
import re
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError, model_validator

from fusion.canonical import digest, to_json
from fusion.dtypes import parse_dtype
from fusion.method_specs import METHOD_SPECS
from jobs.errors import RecipeError
from jobs.strict_yaml import Document, load_yaml

MAX_PROBLEMS = 50
SECONDS = {"s": 1, "m": 60, "h": 3600, "d": 86400}
SIZES = {
    "": 1, "B": 1, "KB": 10**3, "MB": 10**6, "GB": 10**9, "TB": 10**12,
    "KiB": 2**10, "MiB": 2**20, "GiB": 2**30, "TiB": 2**40,
}  # fmt: skip
COUNTS = {"": 1, "k": 10**3, "K": 10**3, "M": 10**6, "B": 10**9, "T": 10**12}
NAME = r"^[a-z0-9][a-z0-9-]{0,62}$"
Kind = TypeVar("Kind", bound=BaseModel)


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


def _dtype(value: Any) -> Any:
    return parse_dtype(str(value))


def _several(value: Any) -> Any:
    return [value] if isinstance(value, str) else value


Seconds = Annotated[float, _scaled({"": 1, **SECONDS}, "10m")]
Bytes = Annotated[int, _whole(SIZES, "1GiB")]
Count = Annotated[int, _whole(COUNTS, "2B")]
Share = Annotated[float, Field(ge=0, le=1)]


class Block(BaseModel):
    """A part of a recipe: frozen, and nothing unknown in it."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=False)


class Select(Block):
    """Which candidates enter the average."""

    keep: Annotated[int, Field(ge=1)] | None = None
    max_parameters: Count | None = None
    max_bytes: Bytes | None = None
    settle_seconds: Seconds = Field(default=0.0, alias="settle")
    min_candidates: Annotated[int, Field(ge=1)] = 2
    on_mismatch: Literal["stop", "drop"] = "stop"
    on_refused: Literal["stop", "drop"] = "stop"


class Columns(Block):
    """Which columns of the evaluation data mean what."""

    text: str = "text"
    label: str = "label"
    id: str | None = None
    cluster: str | None = None


class Slices(Block):
    """Shares of the evaluation data."""

    rank: Share = 0.3
    select: Share = 0.2
    gate: Share = 0.4
    audit: Share = 0.1

    @model_validator(mode="after")
    def _sums_to_one(self) -> "Slices":
        total = self.rank + self.select + self.gate + self.audit
        if abs(total - 1) > 1e-9:
            raise ValueError(f"shares must sum to 1, they sum to {total:g}")
        return self


class Task(Block):
    """What the models are evaluated on."""

    kind: Literal["text-classification"]
    data: Annotated[str, Field(min_length=1)]
    columns: Columns = Columns()
    slices: Slices = Slices()
    batch_size: Annotated[int, Field(ge=1, le=65536)] = 32
    max_length: Annotated[int, Field(ge=1)] | None = None


class Weights(Block):
    """How losses become weights."""

    rule: Literal["softmax", "uniform", "fixed"] = "softmax"
    temperature: Annotated[float, Field(gt=0)] = 1.0
    values: dict[str, float] = Field(default_factory=dict)

    @model_validator(mode="after")
    def _values_fit_the_rule(self) -> "Weights":
        if (self.rule == "fixed") != bool(self.values):
            raise ValueError("values are given with rule: fixed, and only with it")
        return self


class Merge(Block):
    """How tensors become one."""

    method: str = "linear"
    dtype: Annotated[str, BeforeValidator(_dtype)] | None = None
    on_nonfinite: Literal["stop", "exclude_and_reweight"] = "stop"

    @model_validator(mode="after")
    def _method_exists(self) -> "Merge":
        if self.method not in METHOD_SPECS:
            known = ", ".join(METHOD_SPECS)
            raise ValueError(f"method {self.method!r} is not supported; supported: {known}")
        return self


class GuardRule(Block):
    """A metric that must not get worse by more than `margin`."""

    metric: Literal["accuracy", "macro_f1"]
    margin: Annotated[float, Field(ge=0)]


class Gate(Block):
    """How much evidence a promotion needs."""

    smallest_effect: Annotated[float, Field(ge=0)] = 0.01
    alpha: Annotated[float, Field(gt=0, lt=0.5)] = 0.05
    guards: tuple[GuardRule, ...] = ()
    first: Literal["promote", "hold"] = "promote"
    mode: Literal["superior", "non_inferior"] = "superior"
    margin: Annotated[float, Field(ge=0)] = 0.0


class Schedule(Block):
    """When the recipe runs by itself."""

    cron: str
    zone: str
    overlap: Literal["skip", "queue", "cancel_older"] = "skip"
    catch_up_seconds: Seconds = Field(default=0.0, alias="catch_up")


class MergeResources(Block):
    """What the merge may use."""

    workers: Annotated[int, Field(ge=1, le=4096)] | None = None
    memory_bytes: Bytes = Field(default=1 << 30, alias="memory")


class EvaluateResources(Block):
    """What evaluations may use."""

    workers: Annotated[int, Field(ge=1, le=4096)] | None = None
    num_cpus: Annotated[float, Field(gt=0)] = 1.0
    num_gpus: Annotated[float, Field(ge=0)] = 0.0
    memory_bytes: Bytes | None = Field(default=None, alias="memory")
    limit_seconds: Seconds | None = Field(default=None, alias="time_limit")


class RecipeResources(Block):
    """Where and how to run; never changes the result."""

    merge: MergeResources = MergeResources()
    evaluate: EvaluateResources = EvaluateResources()


WITHOUT_EFFECT = {"schedule", "resources", "single_writer"}


class Recipe(Block):
    """A whole recipe. `text` is the file as written, for the run's folder.

    `single_writer` vouches that one process at a time, and nobody by hand, writes to the output:
    only then is a store without conditional writes good enough to promote on.
    """

    name: Annotated[str, Field(pattern=NAME)]
    candidates: Annotated[tuple[str, ...], BeforeValidator(_several), Field(min_length=1)]
    select: Select = Select()
    task: Task
    weights: Weights = Weights()
    merge: Merge = Merge()
    output: Annotated[str, Field(min_length=1)]
    gate: Gate = Gate()
    schedule: Schedule | None = None
    baselines: tuple[Literal["uniform"], ...] = ("uniform",)
    resources: RecipeResources = RecipeResources()
    single_writer: bool = False
    text: str = Field(default="", exclude=True)

    @property
    def digest(self) -> str:
        """sha256 of what changes the result: comments and what WITHOUT_EFFECT names do not."""
        return digest(to_json(self.model_dump(mode="json", exclude=WITHOUT_EFFECT)))


class MergeBlock(Block):
    """What `metafuse merge` takes from a recipe."""

    candidates: Annotated[tuple[str, ...], BeforeValidator(_several), Field(min_length=1)]
    weights: Weights = Weights(rule="uniform")
    merge: Merge = Merge()

    @model_validator(mode="after")
    def _needs_no_losses(self) -> "MergeBlock":
        if self.weights.rule == "softmax":
            raise ValueError("weights.rule: softmax needs losses; use uniform or fixed here")
        return self


def load_recipe(path: Path) -> Recipe:
    """Read a recipe; local paths in it are relative to its folder.

    Raises:
        RecipeError: it cannot be read, or all its mistakes.
    """
    text = read_text(path)
    return parse_recipe(text, name=path.name, folder=str(path.absolute().parent))


def read_text(path: Path) -> str:
    """The text of a recipe or merge document.

    Raises:
        RecipeError: no such file, or not UTF-8.
    """
    try:
        return path.read_text(encoding="utf-8")
    except OSError as error:
        raise RecipeError(
            f"{path}: {error.strerror}", "metafuse demo writes one to start from"
        ) from None
    except UnicodeDecodeError as error:
        raise RecipeError(f"{path}: not UTF-8 at byte {error.start}") from None


def parse_recipe(text: str, *, name: str, folder: str) -> Recipe:
    """A recipe from its text.

    Args:
        text: YAML.
        name: of the file, for messages.
        folder: what relative local paths start from.

    Raises:
        RecipeError: one line a mistake, in line order.
    """
    document = load_yaml(text, name=name)
    recipe = _validated(Recipe, document)
    task = recipe.task.model_copy(update={"data": _located(recipe.task.data, folder)})
    return recipe.model_copy(
        update={
            "text": text,
            "task": task,
            "output": _located(recipe.output, folder),
            "candidates": tuple(_located(entry, folder) for entry in recipe.candidates),
        }
    )


def parse_merge_block(text: str, *, name: str, folder: str) -> MergeBlock:
    """The merge block of a recipe, or a document with candidates, weights and merge alone."""
    document = load_yaml(text, name=name)
    if isinstance(document.value, dict):
        kept = {
            k: v
            for k, v in document.value.items()
            if k not in Recipe.model_fields.keys() - MergeBlock.model_fields.keys()
        }
        document = Document(document.name, kept, document.lines)
    block = _validated(MergeBlock, document)
    return block.model_copy(
        update={"candidates": tuple(_located(entry, folder) for entry in block.candidates)}
    )


def _located(path: str, folder: str) -> str:
    if "://" in path or path.startswith(("/", "~")):
        return path
    return str(Path(folder) / path) + ("/" if path.endswith("/") else "")


def _validated(kind: type[Kind], document: Document) -> Kind:
    if not isinstance(document.value, dict):
        raise RecipeError(
            f"{document.name}:1: a mapping of keys expected, found {type(document.value).__name__}",
            "metafuse demo writes a recipe to start from",
        )
    try:
        return kind.model_validate(document.value)
    except ValidationError as error:
        problems = sorted(
            (document.line(_path(entry)), _sentence(kind, entry)) for entry in error.errors()
        )
    lines = [f"{document.name}:{line}: {sentence}" for line, sentence in problems[:MAX_PROBLEMS]]
    raise RecipeError(
        f"{len(problems)} mistake{'s' * (len(problems) > 1)}; nothing was read or written\n"
        + "\n".join(lines),
        f"metafuse plan {document.name} checks it again",
    )


def _path(entry: Any) -> tuple[str | int, ...]:
    return tuple(part for part in entry["loc"] if not str(part).startswith("function-"))


def _sentence(kind: type[BaseModel], entry: Any) -> str:
    """One mistake in plain words."""
    path = _path(entry)
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


def _known(kind: type[BaseModel], path: tuple[str | int, ...]) -> list[str]:
    """Keys that a mapping at `path` may have."""
    for part in path:
        field = kind.model_fields.get(str(part))
        inner = field.annotation if field else None
        if not (isinstance(inner, type) and issubclass(inner, BaseModel)):
            return []
        kind = inner
    return [field.alias or name for name, field in kind.model_fields.items() if name != "text"]


def parse_size(text: str) -> int:
    """Bytes from "1GiB".

    Raises:
        RecipeError: not a size.
    """
    match = re.fullmatch(r"\s*([0-9]+(?:\.[0-9]+)?)\s*([A-Za-z]*)\s*", text)
    if not match or match[2] not in SIZES:
        raise RecipeError(f"{text!r} is not a size such as 1GiB")
    return int(float(match[1]) * SIZES[match[2]])
