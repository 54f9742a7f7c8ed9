"""The user's YAML as frozen values: everything that changes the result, all mistakes at once."""

from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar

from pydantic import (
    AfterValidator,
    BaseModel,
    Field,
    ValidationError,
    model_validator,
)

from fusion.canonical import digest, to_json
from fusion.nearest import ask_meant
from fusion.scores.specs import TASK_SPECS
from jobs.console.secret_texts import check_no_secrets
from jobs.errors import RecipeError
from jobs.recipes.blocks import (
    Gate,
    Merge,
    Notify,
    Report,
    Retention,
    Schedule,
    Select,
    Weights,
)
from jobs.recipes.fields import (
    Block,
    Several,
    check_output_place,
    check_place,
    told,
    wrong_at,
)
from jobs.recipes.mistakes import describe_mistake, mistake_path
from jobs.recipes.resources import RecipeResources
from jobs.recipes.strict_yaml import Document, read_text, read_yaml
from jobs.recipes.task_fields import TaskBlock

MAX_PROBLEMS = 50
# For a model that no operator looks at before use: one false promotion in 200 nights, not in 20.
UNATTENDED_ALPHA = 0.005
NAME = r"^[a-z0-9][a-z0-9-]{0,62}$"
Checked = TypeVar("Checked", bound=BaseModel)


WITHOUT_EFFECT: Any = {
    "schedule": True,
    "resources": True,
    "single_writer": True,
    "notify": True,
    "retention": True,
    "report": True,
    "merge": {"health"},
}


Candidates = Annotated[
    Several,
    told("Folders or prefixes of the models, one or several; `*` stands for a part of a name, `**` "
         "for folders in between.", ["s3://bucket/run-42/step-*/"]),
]  # fmt: skip
Base = Annotated[
    Annotated[str, Field(min_length=1), AfterValidator(check_place)] | None,
    told("The model that the candidates were trained from; adapters need it.",
         "s3://bucket/bert-base"),
]  # fmt: skip


class Recipe(Block):
    """A whole recipe. `text` is the file as written, for the run's folder.

    `single_writer` vouches that one process at a time, and no person, writes to the output: a store
    without conditional writes is good enough to promote on only then.
    """

    name: Annotated[
        str,
        told("Names the runs of this recipe: letters in lower case, digits and '-'.", "nightly",
             pattern=NAME),
    ]  # fmt: skip
    candidates: Candidates
    base: Base = None
    select: Annotated[
        Select, told("Which candidates enter the average.", {"keep": 5, "settle": "10m"})
    ] = Select()
    task: Annotated[
        TaskBlock,
        told("What the models are evaluated on.",
             {"kind": "text-classification", "data": "eval.parquet"}),
    ]  # fmt: skip
    weights: Annotated[
        Weights, told("How losses become weights.", {"rule": "softmax", "temperature": 0.1})
    ] = Weights()
    merge: Annotated[Merge, told("How tensors become one.", {"dtype": "bfloat16"})] = Merge()
    output: Annotated[
        str,
        AfterValidator(check_output_place),
        told("The folder or prefix that runs and the pointer to the promoted model go to. One "
             "recipe, one output.", "s3://bucket/merged", min_length=1),
    ]  # fmt: skip
    gate: Annotated[
        Gate, told("How much evidence a promotion needs.", {"smallest_effect": 0.02})
    ] = Gate()
    report: Annotated[
        Report,
        told("What the report of a run shows of the evaluation data; never changes the result.",
             {"examples": 0}),
    ] = Report()  # fmt: skip
    schedule: Annotated[
        Schedule | None,
        told("When the recipe runs by itself.", {"cron": "0 4 * * *", "zone": "Europe/Paris"}),
    ] = None
    baselines: Annotated[
        tuple[Literal["uniform"], ...],
        told("Other weights that are merged, scored and reported beside the fused model, and never "
             "promoted.", []),
    ] = ("uniform",)  # fmt: skip
    resources: Annotated[
        RecipeResources,
        told("Where and how to run; never changes the result.", {"evaluate": {"num_cpus": 4}}),
    ] = RecipeResources()
    notify: Annotated[
        Notify | None,
        told("Where to tell how a run ended. The address itself is a secret: it stays in the "
             "environment.", {"allow": ["hooks.slack.com"]}),
    ] = None  # fmt: skip
    retention: Annotated[
        Retention, told("What `metafuse gc RECIPE` leaves alone.", {"keep": 7, "older_than": "14d"})
    ] = Retention()
    single_writer: Annotated[
        bool,
        told("Vouches that one process at a time, and no person, writes to the output. Needed for "
             "promotion on a store without conditional writes.", example=True),
    ] = False  # fmt: skip
    # No document can hold a key with a NUL, so this is no key of a recipe.
    text: str = Field(default="", exclude=True, alias="\0text")

    @model_validator(mode="after")
    def _adapter_has_a_base(self) -> "Recipe":
        _check_base(self.merge, self.base)
        return self

    @model_validator(mode="after")
    def _guards_fit_the_task(self) -> "Recipe":
        spec = TASK_SPECS.get(self.task.kind)
        for index, guard in enumerate(self.gate.guards):
            if spec is not None and guard.metric not in spec.guards:
                meant = ask_meant(guard.metric, spec.guards)
                text = f"expected {' or '.join(spec.guards)}, found {guard.metric!r}{meant}"
                raise wrong_at(f"gate.guards.{index}.metric", text)
        return self

    @property
    def digest(self) -> str:
        """sha256 of what changes the result: comments and what WITHOUT_EFFECT names do not."""
        return digest(to_json(self.model_dump(mode="json", exclude=WITHOUT_EFFECT)))


class MergeBlock(Block):
    """What `metafuse merge` takes from a recipe."""

    candidates: Candidates
    base: Base = None
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
        RecipeError: the recipe cannot be read, or has mistakes; the error lists all of them.
    """
    text = read_text(path)
    return parse_recipe(text, name=path.name, folder=str(path.absolute().parent))


def unattended(recipe: Recipe) -> Recipe:
    """The recipe as it runs unattended: more evidence, unless it says itself how much."""
    if "alpha" in recipe.gate.model_fields_set:
        return recipe
    gate = recipe.gate.model_copy(update={"alpha": UNATTENDED_ALPHA})
    return recipe.model_copy(update={"gate": gate})


def parse_recipe(text: str, *, name: str, folder: str) -> Recipe:
    """A recipe from its text.

    Args:
        text: content of the recipe in YAML.
        name: name of the file, for messages.
        folder: folder that relative local paths start from.

    Raises:
        RecipeError: has one line for each mistake, in line order.
    """
    check_no_secrets(text, name=name)
    document = read_yaml(text, name=name)
    recipe = _validated(Recipe, document)
    places = tuple(located(place, folder) for place in recipe.task.places)
    data = places[0] if isinstance(recipe.task.data, str) else places
    task = recipe.task.model_copy(update={"data": data})
    return recipe.model_copy(
        update={
            "text": text,
            "task": task,
            "output": located(recipe.output, folder),
            "base": recipe.base and located(recipe.base, folder),
            "candidates": tuple(located(entry, folder) for entry in recipe.candidates),
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
            "candidates": tuple(located(entry, folder) for entry in block.candidates),
            "base": block.base and located(block.base, folder),
        }
    )


def located(path: str, folder: str) -> str:
    """A path or URI of a document in a folder, whole: relative ones begin at the folder."""
    if "://" in path or path.startswith(("/", "~", "arn:")):
        return path
    return str(Path(folder) / path) + ("/" if path.endswith("/") else "")


def _validated(kind: type[Checked], document: Document) -> Checked:
    if not isinstance(document.value, dict):
        found = "an empty file" if document.value is None else type(document.value).__name__
        raise RecipeError(
            f"{document.name}:1: a mapping of keys expected, found {found}; nothing was read",
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
        f"metafuse plan {document.name} checks it again; metafuse recipe --explain KEY says what "
        "a key takes",
    )
