"""The blocks of a recipe that change its result: select, weights, merge, gate; and when it runs."""

from typing import Annotated, Any, Literal

from pydantic import (
    AfterValidator,
    BeforeValidator,
    Field,
    model_validator,
)

from fusion.plans.health import HealthMode
from fusion.plans.method_specs import DEFAULT_METHOD, METHOD_SPECS
from fusion.plans.wish import MergeWish
from jobs.recipes.fields import (
    Block,
    Bytes,
    Count,
    Number,
    Seconds,
    Whole,
    read_dtype,
    wrong_at,
)
from jobs.recipes.notify_fields import USUAL_EVENTS, Event, check_host, check_variable, has_address
from jobs.recipes.schedule_fields import check_cron, check_zone


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

    method: str = DEFAULT_METHOD
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

    @property
    def wish(self) -> MergeWish:
        """The values that the block hands to the merge."""
        return MergeWish(method=self.method, dtype=self.dtype, output=self.output)


class GuardRule(Block):
    """A metric of the task's kind that must not get worse by more than `margin`."""

    metric: str
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
    """Where to report how a run ended. The address is a secret: it stays in the environment."""

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
