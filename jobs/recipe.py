"""The user's YAML as frozen values: everything that changes the result, all mistakes at once."""

from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    Field,
    ValidationError,
    model_validator,
)

from cluster.runner import Resources
from fusion.canonical import digest, to_json
from fusion.health import HealthMode
from fusion.method_specs import METHOD_SPECS
from jobs.errors import RecipeError
from jobs.notify_fields import USUAL_EVENTS, Event, check_host, check_variable, has_address
from jobs.recipe_fields import (
    BitRate,
    Block,
    Bytes,
    Count,
    Number,
    Seconds,
    Share,
    Whole,
    read_dtype,
    read_several,
    wrong_at,
)
from jobs.recipe_mistakes import describe_mistake, mistake_path
from jobs.schedule_fields import check_cron, check_zone
from jobs.secret_texts import check_no_secrets
from jobs.strict_yaml import Document, read_text, read_yaml

MAX_PROBLEMS = 50
# Where nobody looks before a model is used, one false promotion in 200 nights, not in 20.
UNATTENDED_ALPHA = 0.005
NAME = r"^[a-z0-9][a-z0-9-]{0,62}$"
Kind = TypeVar("Kind", bound=BaseModel)


class Select(Block):
    """Which candidates enter the average."""

    keep: Annotated[Whole, Field(ge=1)] | None = None
    max_parameters: Count | None = None
    max_bytes: Bytes | None = None
    settle_seconds: Seconds = Field(default=0.0, alias="settle")
    min_candidates: Annotated[Whole, Field(ge=1)] = 2
    on_mismatch: Literal["stop", "drop"] = "stop"
    on_refused: Literal["stop", "drop"] = "stop"

    @model_validator(mode="after")
    def _keeps_enough(self) -> "Select":
        if self.keep is not None and self.keep < self.min_candidates:
            raise wrong_at(
                "keep", f"{self.keep} is less than min_candidates, {self.min_candidates}"
            )
        return self


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
        for name in ("rank", "gate"):
            if getattr(self, name) <= 0:
                raise wrong_at(name, f"must be above 0: every run needs the {name} slice")
        return self


class Task(Block):
    """What the models are evaluated on."""

    kind: Literal["text-classification"]
    data: Annotated[str, Field(min_length=1)]
    columns: Columns = Columns()
    slices: Slices = Slices()
    batch_size: Annotated[Whole, Field(ge=1, le=65536)] = 32
    max_length: Annotated[Whole, Field(ge=1)] | None = None


class Weights(Block):
    """How losses become weights."""

    rule: Literal["softmax", "uniform", "fixed"] = "softmax"
    temperature: Annotated[Number, Field(gt=0)] = 1.0
    values: dict[str, Number] = Field(default_factory=dict)

    @model_validator(mode="after")
    def _values_fit_the_rule(self) -> "Weights":
        if (self.rule == "fixed") != bool(self.values):
            raise ValueError("values are given with rule: fixed, and only with it")
        return self


class Merge(Block):
    """How tensors become one."""

    method: str = "linear"
    dtype: Annotated[str, BeforeValidator(read_dtype)] | None = None
    on_nonfinite: Literal["stop", "exclude_and_reweight"] = "stop"
    output: Literal["model", "adapter"] = "model"
    health: HealthMode = "sampled"

    @model_validator(mode="after")
    def _method_exists(self) -> "Merge":
        if self.method not in METHOD_SPECS:
            known = ", ".join(METHOD_SPECS)
            raise wrong_at("method", f"{self.method!r} is not supported; supported: {known}")
        return self


class GuardRule(Block):
    """A metric that must not get worse by more than `margin`."""

    metric: Literal["accuracy", "macro_f1"]
    margin: Annotated[Number, Field(ge=0)]


class Gate(Block):
    """How much evidence a promotion needs."""

    smallest_effect: Annotated[Number, Field(ge=0)] = 0.01
    alpha: Annotated[Number, Field(gt=0, lt=0.5)] = 0.05
    guards: tuple[GuardRule, ...] = ()
    first: Literal["promote", "hold"] = "promote"
    mode: Literal["superior", "non_inferior"] = "superior"
    margin: Annotated[Number, Field(ge=0)] = 0.0


class Schedule(Block):
    """When the recipe runs by itself."""

    cron: Annotated[str, AfterValidator(check_cron)]
    zone: Annotated[str, AfterValidator(check_zone)]
    overlap: Literal["skip", "queue", "cancel_older"] = "skip"
    catch_up_seconds: Seconds = Field(default=0.0, alias="catch_up")


class Notify(Block):
    """Whom to tell how a run ended. The address is a secret: it stays in the environment."""

    url_env: Annotated[str, AfterValidator(check_variable)] = "METAFUSE_WEBHOOK"
    on: tuple[Event, ...] = USUAL_EVENTS
    allow: tuple[Annotated[str, AfterValidator(check_host)], ...] = ()

    @model_validator(mode="before")
    @classmethod
    def _holds_no_address(cls, block: Any) -> Any:
        if has_address(block):
            raise wrong_at("url", "recipes are stored; put the address in the environment, url_env")
        return block


class Retention(Block):
    """What `metafuse gc RECIPE` leaves alone."""

    keep: Annotated[Whole, Field(ge=0)] = 3
    older_than_seconds: Seconds = Field(default=7 * 86400.0, alias="older_than")


class MergeResources(Block):
    """What the merge may use. `nic` is the network of one host; the head works if `on_head`."""

    workers: Annotated[Whole, Field(ge=1, le=4096)] | None = None
    memory_bytes: Bytes = Field(default=1 << 30, alias="memory")
    nic_bits: Annotated[BitRate, Field(gt=0)] | None = Field(default=None, alias="nic")
    on_head: bool = False


def _share_of_one_or_whole(value: float) -> float:
    if value > 1 and value != int(value):
        raise ValueError(f"expected a share of one GPU or whole ones, found {value:g}")
    return value


class EvaluateResources(Block):
    """What evaluations may use."""

    workers: Annotated[Whole, Field(ge=1, le=4096)] | None = None
    num_cpus: Annotated[Number, Field(gt=0)] = 1.0
    num_gpus: Annotated[Number, Field(ge=0), AfterValidator(_share_of_one_or_whole)] = 0.0
    accelerator_type: Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_.-]*$")] | None = None
    memory_bytes: Bytes | None = Field(default=None, alias="memory")
    limit_seconds: Seconds | None = Field(default=None, alias="time_limit")

    @property
    def of_one(self) -> Resources:
        """What one evaluation may use."""
        return Resources(
            self.num_cpus,
            self.num_gpus,
            self.memory_bytes or 0,
            self.limit_seconds,
            accelerator_type=self.accelerator_type or "",
        )


class RecipeResources(Block):
    """Where and how to run; never changes the result."""

    merge: MergeResources = MergeResources()
    evaluate: EvaluateResources = EvaluateResources()


WITHOUT_EFFECT: Any = {
    "schedule": True,
    "resources": True,
    "single_writer": True,
    "notify": True,
    "retention": True,
    "merge": {"health"},
}


class Recipe(Block):
    """A whole recipe. `text` is the file as written, for the run's folder.

    `single_writer` vouches that one process at a time, and nobody by hand, writes to the output:
    only then is a store without conditional writes good enough to promote on.
    """

    name: Annotated[str, Field(pattern=NAME)]
    candidates: Annotated[tuple[str, ...], BeforeValidator(read_several), Field(min_length=1)]
    base: Annotated[str, Field(min_length=1)] | None = None
    select: Select = Select()
    task: Task
    weights: Weights = Weights()
    merge: Merge = Merge()
    output: Annotated[str, Field(min_length=1)]
    gate: Gate = Gate()
    schedule: Schedule | None = None
    baselines: tuple[Literal["uniform"], ...] = ("uniform",)
    resources: RecipeResources = RecipeResources()
    notify: Notify | None = None
    retention: Retention = Retention()
    single_writer: bool = False
    # No document can hold a key with a NUL, so this is no key of a recipe.
    text: str = Field(default="", exclude=True, alias="\0text")

    @model_validator(mode="after")
    def _adapter_has_a_base(self) -> "Recipe":
        _check_base(self.merge, self.base)
        return self

    @property
    def digest(self) -> str:
        """sha256 of what changes the result: comments and what WITHOUT_EFFECT names do not."""
        return digest(to_json(self.model_dump(mode="json", exclude=WITHOUT_EFFECT)))


class MergeBlock(Block):
    """What `metafuse merge` takes from a recipe."""

    candidates: Annotated[tuple[str, ...], BeforeValidator(read_several), Field(min_length=1)]
    base: Annotated[str, Field(min_length=1)] | None = None
    weights: Weights = Weights(rule="uniform")
    merge: Merge = Merge()

    @model_validator(mode="after")
    def _needs_no_losses(self) -> "MergeBlock":
        if self.weights.rule == "softmax":
            raise wrong_at("weights.rule", "softmax needs losses; use uniform or fixed here")
        _check_base(self.merge, self.base)
        return self


def _check_base(merge: Merge, base: str | None) -> None:
    if merge.output == "adapter" and base is None:
        raise wrong_at("merge.output", "adapter needs base: the model that the adapters change")


def load_recipe(path: Path) -> Recipe:
    """Read a recipe; local paths in it are relative to its folder.

    Raises:
        RecipeError: it cannot be read, or all its mistakes.
    """
    text = read_text(path)
    return parse_recipe(text, name=path.name, folder=str(path.absolute().parent))


def unattended(recipe: Recipe) -> Recipe:
    """The recipe as it runs where nobody watches: more evidence, unless it says itself how much."""
    if "alpha" in recipe.gate.model_fields_set:
        return recipe
    gate = recipe.gate.model_copy(update={"alpha": UNATTENDED_ALPHA})
    return recipe.model_copy(update={"gate": gate})


def parse_recipe(text: str, *, name: str, folder: str) -> Recipe:
    """A recipe from its text.

    Args:
        text: YAML.
        name: of the file, for messages.
        folder: what relative local paths start from.

    Raises:
        RecipeError: one line a mistake, in line order.
    """
    check_no_secrets(text, name=name)
    document = read_yaml(text, name=name)
    recipe = _validated(Recipe, document)
    task = recipe.task.model_copy(update={"data": _located(recipe.task.data, folder)})
    return recipe.model_copy(
        update={
            "text": text,
            "task": task,
            "output": _located(recipe.output, folder),
            "base": recipe.base and _located(recipe.base, folder),
            "candidates": tuple(_located(entry, folder) for entry in recipe.candidates),
        }
    )


def parse_merge_block(text: str, *, name: str, folder: str) -> MergeBlock:
    """The merge block of a recipe, or a document with candidates, weights and merge alone."""
    check_no_secrets(text, name=name)
    document = read_yaml(text, name=name)
    if isinstance(document.value, dict):
        kept = {
            k: v
            for k, v in document.value.items()
            if k not in Recipe.model_fields.keys() - MergeBlock.model_fields.keys()
        }
        document = replace(document, value=kept)
    block = _validated(MergeBlock, document)
    return block.model_copy(
        update={
            "candidates": tuple(_located(entry, folder) for entry in block.candidates),
            "base": block.base and _located(block.base, folder),
        }
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
    problems = [(problem.line, problem.text) for problem in document.problems]
    try:
        value = kind.model_validate(document.value)
    except ValidationError as error:
        problems += [
            (document.line(mistake_path(entry)), describe_mistake(kind, entry))
            for entry in error.errors()
            if not document.is_broken(mistake_path(entry))
        ]
    else:
        if not problems:
            return value
    problems.sort()
    lines = [f"{document.name}:{line}: {sentence}" for line, sentence in problems[:MAX_PROBLEMS]]
    raise RecipeError(
        f"{len(problems)} mistake{'s' * (len(problems) > 1)}; nothing was read or written\n"
        + "\n".join(lines),
        f"metafuse plan {document.name} checks it again",
    )
