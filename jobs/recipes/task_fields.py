"""The task block of a recipe: its kind, and what a kind of ours allows in it."""

import re
from collections.abc import Mapping, Sequence
from typing import Annotated, Any

from pydantic import (
    AfterValidator,
    BeforeValidator,
    Field,
    ValidationInfo,
    field_validator,
    model_validator,
)

from fusion.nearest import ask_meant
from fusion.scores.contract import TaskSpec
from fusion.scores.specs import TASK_SPECS
from jobs.recipes.fields import Block, Share, Whole, check_place, told, wrong_at

IMPORT_STRING = re.compile(r"[A-Za-z_]\w*(\.[A-Za-z_]\w*)*:[A-Za-z_]\w*")
# What any kind of task may name beside the columns of its own.
NAMES = ("id", "cluster")


class SliceShares(Block):
    """Shares of the evaluation data."""

    rank: Annotated[Share, told("Share that ranks the candidates and gives weights.", 0.4)] = 0.3
    select: Annotated[Share, told("Share kept for choices between fused models.", 0.1)] = 0.2
    gate: Annotated[Share, told("Share that decides about promotion.", 0.5)] = 0.4
    audit: Annotated[
        Share, told("Share that no run reads, kept for a judgement of many runs.", 0.0)
    ] = 0.1

    @model_validator(mode="after")
    def _sums_to_one(self) -> "SliceShares":
        total = self.rank + self.select + self.gate + self.audit
        if abs(total - 1) > 1e-9:
            raise ValueError(f"shares must sum to 1, they sum to {total:g}")
        for name in ("rank", "gate"):
            if getattr(self, name) <= 0:
                raise wrong_at(name, f"must be above 0: every run needs the {name} slice")
        return self


def check_kind(kind: str) -> str:
    """A kind of ours, or module:NAME; what that is, is seen where it is imported."""
    if kind in TASK_SPECS or IMPORT_STRING.fullmatch(kind):
        return kind
    known = ", ".join(TASK_SPECS)
    meant = ask_meant(kind, TASK_SPECS)
    raise ValueError(f"expected {known}, or your own as module:NAME, found {kind!r}{meant}")


def find_mistake(spec: TaskSpec, columns: Mapping[str, str | None]) -> tuple[str, str] | None:
    """The first key of `columns` that is wrong for a kind of task, and why; None for none."""
    known = (*spec.columns, *NAMES)
    strange = [key for key in columns if key not in known]
    if strange and all(columns[key] in known for key in strange):
        turned = {columns[key] if key in strange else key: key if key in strange else columns[key]
                  for key in columns}  # fmt: skip
        asked = ", ".join(f"{role}: {column}" for role, column in turned.items())
        return strange[0], f"unknown key{_others(strange)}; roles come first: {{{asked}}}"
    for key, column in columns.items():
        if key not in known:
            meant = ask_meant(key, known, likeness=0.5)
            return key, f"unknown key{meant or f'; {spec.kind} has ' + ', '.join(known)}"
        if column is None and key in spec.columns and key not in spec.optional:
            return key, f"{spec.kind} needs this column, found None"
    return None


def _others(keys: Sequence[str]) -> str:
    return f", as {' and '.join(keys[1:])} is" if len(keys) > 1 else ""


def _as_text(value: Any) -> Any:
    return {str(key): entry for key, entry in value.items()} if isinstance(value, dict) else value


def _class_number(value: Any) -> Any:
    if isinstance(value, bool) or not isinstance(value, str | int):
        raise ValueError(f"expected a label or the number of a class, found {value!r}")  # noqa: TRY004
    return value


def _data(value: Any) -> Any:
    places = value if isinstance(value, list | tuple) else [value]
    if not places or not all(isinstance(place, str) and place for place in places):
        raise ValueError(f"expected a path or URI, or a list of them, found {value!r}")
    for place in places:
        check_place(place)
    return tuple(places) if isinstance(value, list) else value


Meaning = Annotated[str | int, BeforeValidator(_class_number)]


def _roles() -> str:
    named = (f"{', '.join(spec.columns)} for {spec.kind}" for spec in TASK_SPECS.values())
    return "; ".join(named)


class TaskBlock(Block):
    """What the models are evaluated on."""

    kind: Annotated[
        str,
        AfterValidator(check_kind),
        told(f"What is asked of the models: {', '.join(TASK_SPECS)}, or your own as module:NAME.",
             "text-classification"),
    ]  # fmt: skip
    data: Annotated[
        str | tuple[str, ...],
        BeforeValidator(_data),
        told("The labelled examples, on disk or on S3: a file in Parquet, CSV, TSV or JSON, a "
             "folder, a pattern, or a list of these (docs/data.md).",
             "s3://bucket/eval/reviews.parquet"),
    ]  # fmt: skip
    columns: Annotated[
        dict[str, str | None],
        told("The column of each role: " + _roles() + "; id: unique names of the examples; "
             "cluster: what binds examples together, such as a document.",
             {"text": "review", "label": "stars"}),
    ] = Field(default_factory=dict, validate_default=True)  # fmt: skip
    slices: Annotated[
        SliceShares,
        told("Shares of the examples, of sum 1. A hash of the cluster says which slice an example "
             "is in.", {"rank": 0.3, "select": 0.2, "gate": 0.4, "audit": 0.1}),
    ] = SliceShares()  # fmt: skip
    batch_size: Annotated[Whole, told("Examples of one forward pass.", 64, ge=1, le=65536)] = 32
    max_length: Annotated[
        Annotated[Whole, Field(ge=1)] | None,
        told("Tokens that are read of each text; left out, as many as the model can.", 256),
    ] = None
    # Left out of the recipe's identity where it is not used: older runs are the same runs.
    labels: Annotated[
        dict[str, Meaning],
        BeforeValidator(_as_text),
        told("What each value of the label column means: a label of the models, or the number of "
             "a class.", {"1": "1 star", "2": "2 stars"}),
    ] = Field(default_factory=dict, exclude_if=lambda labels: not labels)  # fmt: skip

    @property
    def places(self) -> tuple[str, ...]:
        """Paths and URIs of the data."""
        return (self.data,) if isinstance(self.data, str) else self.data

    @field_validator("columns")
    @classmethod
    def _fit_the_kind(
        cls, columns: dict[str, str | None], info: ValidationInfo
    ) -> dict[str, str | None]:
        spec = TASK_SPECS.get(info.data.get("kind", ""))
        if spec is None:
            return columns
        mistake = find_mistake(spec, columns)
        if mistake is not None:
            raise wrong_at(*mistake)
        return fill_columns(spec, columns)

    @model_validator(mode="after")
    def _has_labels(self) -> "TaskBlock":
        spec = TASK_SPECS.get(self.kind)
        if self.labels and spec is not None and spec.columns[spec.truth] != "label":
            raise wrong_at("labels", f"{self.kind} has no labels, its truths are numbers")
        return self


def fill_columns(spec: TaskSpec, columns: Mapping[str, str | None]) -> dict[str, str | None]:
    """Every role of a kind with its column: its own name where none is given."""
    usual = {role: role for role in spec.columns if role not in spec.optional}
    # A role that is left out is in no digest: a kind may come to know more of them.
    given = {k: v for k, v in columns.items() if v is not None or k not in spec.optional}
    return {**usual, **dict.fromkeys(NAMES), **given}
