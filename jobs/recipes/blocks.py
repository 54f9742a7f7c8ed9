"""The blocks of a recipe that change its result: select, weights, merge, gate; and when it runs."""

from typing import Annotated, Any, Literal

from pydantic import (
    AfterValidator,
    BeforeValidator,
    Field,
    model_validator,
)

from fusion.nearest import ask_meant
from fusion.plans.health import HealthMode
from fusion.plans.method_specs import DEFAULT_METHOD, METHOD_SPECS
from fusion.plans.wish import MergeWish
from jobs.recipes.fields import (
    Age,
    Block,
    Bytes,
    Count,
    Number,
    Seconds,
    Whole,
    read_dtype,
    told,
    wrong_at,
)
from jobs.recipes.notify_fields import USUAL_EVENTS, Event, check_host, check_variable, has_address
from jobs.recipes.schedule_fields import check_cron, check_zone


class Select(Block):
    """Which candidates enter the average."""

    keep: Annotated[
        Annotated[Whole, Field(ge=1)] | None,
        told("How many of the best candidates on the rank slice enter the average.", 5),
    ] = None
    max_parameters: Annotated[
        Count | None, told("Candidates with more parameters are left out.", "2B")
    ] = None
    max_bytes: Annotated[
        Bytes | None, told("Candidates with more bytes of tensors are left out.", "4GiB")
    ] = None
    settle_seconds: Annotated[
        Seconds,
        told("Candidates whose newest file is younger are left out: they may still be written.",
             "10m", alias="settle"),
    ] = 0.0  # fmt: skip
    min_candidates: Annotated[
        Whole, told("With fewer usable candidates the run ends with status 13.", 3, ge=1)
    ] = 2
    on_mismatch: Annotated[
        Literal["stop", "drop"],
        told("What a candidate does whose tensors, config or tokenizer differ from the others': "
             "it stops the run, or is left out by name.", "drop"),
    ] = "stop"  # fmt: skip
    on_refused: Annotated[
        Literal["stop", "drop"],
        told("What a candidate does that is refused for safety, such as pickled weights: it stops "
             "the run, or is left out by name.", "drop"),
    ] = "stop"  # fmt: skip

    @model_validator(mode="after")
    def _keeps_enough(self) -> "Select":
        if self.keep is not None and self.keep < self.min_candidates:
            raise wrong_at(
                "keep", f"{self.keep} is less than min_candidates, {self.min_candidates}"
            )
        return self


class Weights(Block):
    """How losses become weights."""

    rule: Annotated[
        Literal["softmax", "uniform", "fixed"],
        told("softmax: of minus the loss on the rank slice over the temperature; uniform: all the "
             "same; fixed: as `values` says.", "uniform"),
    ] = "softmax"  # fmt: skip
    temperature: Annotated[
        Number,
        told("Divides the losses before the softmax, in units of the loss; a smaller one gives the "
             "best candidates more.", 0.1, gt=0),
    ] = 1.0  # fmt: skip
    values: Annotated[
        dict[str, Number],
        told("The weight of each candidate by its name, with rule: fixed. The sum is made 1.",
             {"step-100": 2, "step-200": 1}),
    ] = Field(default_factory=dict)  # fmt: skip

    @model_validator(mode="after")
    def _values_fit_the_rule(self) -> "Weights":
        if (self.rule == "fixed") != bool(self.values):
            raise ValueError("values are given with rule: fixed, and only with it")
        if self.rule != "softmax" and self.temperature != 1:
            raise wrong_at("temperature", f"it says nothing with rule: {self.rule}, only with "
                           "rule: softmax; take it out")  # fmt: skip
        return self


class Merge(Block):
    """How tensors become one."""

    method: Annotated[
        str, told(f"How tensors become one: {', '.join(METHOD_SPECS)}.", DEFAULT_METHOD)
    ] = DEFAULT_METHOD
    dtype: Annotated[
        Annotated[str, BeforeValidator(read_dtype)] | None,
        told("Type of the fused tensors of floating numbers; left out, each has the smallest type "
             "that holds those of all candidates.", "bfloat16"),
    ] = None  # fmt: skip
    on_nonfinite: Annotated[
        Literal["stop", "exclude_and_reweight"],
        told("What NaN or infinity in a candidate does: it stops the run, or the candidate is left "
             "out and the weights of the others sum to 1 again.", "exclude_and_reweight"),
    ] = "stop"  # fmt: skip
    output: Annotated[
        Literal["model", "adapter"],
        told("What is written where candidates are adapters: a whole model, or one adapter over "
             "`base`.", "adapter"),
    ] = "model"  # fmt: skip
    health: Annotated[
        HealthMode,
        told("How much of the candidates is looked at for health (norms, distances) while it is "
             "merged. Changes what is reported, never what is merged.", "full"),
    ] = "sampled"  # fmt: skip

    @model_validator(mode="after")
    def _method_exists(self) -> "Merge":
        if self.method not in METHOD_SPECS:
            known = ", ".join(METHOD_SPECS)
            meant = ask_meant(self.method, METHOD_SPECS)
            text = f"{self.method!r} is not supported; supported: {known}{meant}"
            raise wrong_at("method", text)
        return self

    @property
    def wish(self) -> MergeWish:
        """The values that the block hands to the merge."""
        return MergeWish(method=self.method, dtype=self.dtype, output=self.output)


class GuardRule(Block):
    """A metric of the task's kind that must not get worse by more than `margin`."""

    metric: Annotated[str, told("A metric of the task's kind, on the gate slice.", "accuracy")]
    margin: Annotated[
        Number,
        told("How much worse than its opponent the fused model may be, in units of the metric.",
             0.01, ge=0),
    ]  # fmt: skip


class Gate(Block):
    """How much evidence a promotion needs."""

    smallest_effect: Annotated[
        Number,
        told("The smallest difference of losses that matters, in units of the loss.", 0.02, ge=0),
    ] = 0.01
    alpha: Annotated[
        Number,
        told("Chance that a fused model which is no better is promoted. Unattended runs "
             "(`schedule`, `submit`, `run --unattended`) take .005 where the recipe gives none.",
             0.01, gt=0, lt=0.5),
    ] = 0.05  # fmt: skip
    guards: Annotated[
        tuple[GuardRule, ...],
        told("Metrics that must not get worse by more than a margin.",
             [{"metric": "accuracy", "margin": 0.01}]),
    ] = ()  # fmt: skip
    first: Annotated[
        Literal["promote", "hold"],
        told("Without a promoted model to compare with: promote a fused model that beats the best "
             "candidate, or hold it for a person.", "hold"),
    ] = "promote"  # fmt: skip
    mode: Annotated[
        Literal["superior", "non_inferior"],
        told("superior: the loss must be lower; non_inferior: it must not be higher by more than "
             "`margin`.", "non_inferior"),
    ] = "superior"  # fmt: skip
    margin: Annotated[
        Number, told("The margin of non_inferior, in units of the loss.", 0.02, ge=0)
    ] = 0.0


class Report(Block):
    """What the report of a run shows of the evaluation data."""

    examples: Annotated[
        Whole,
        told("How many examples the report shows with their texts: those whose loss changed most "
             "between the best candidate and the fused model. 0 keeps all texts out of it.",
             0, ge=0, le=1000),
    ] = 20  # fmt: skip


class Schedule(Block):
    """When the recipe runs by itself."""

    cron: Annotated[
        str,
        AfterValidator(check_cron),
        told("Minute, hour, day of month, month, day of week.", "0 4 * * *"),
    ]
    zone: Annotated[str, AfterValidator(check_zone), told("Time zone of `cron`.", "Europe/Paris")]
    overlap: Annotated[
        Literal["skip", "queue", "cancel_older"],
        told("What happens at the time of a run while the one before still runs: the new one is "
             "left out, waits, or takes the old one's place.", "queue"),
    ] = "skip"  # fmt: skip
    catch_up_seconds: Annotated[
        Seconds,
        told("How late a missed run may still start; at least 15 minutes.", "6h", alias="catch_up"),
    ] = 0.0


class Notify(Block):
    """Where to report how a run ended. The address is a secret: it stays in the environment."""

    url_env: Annotated[
        str,
        AfterValidator(check_variable),
        told("The environment variable that holds the address.", "METAFUSE_WEBHOOK_TEAM"),
    ] = "METAFUSE_WEBHOOK"
    on: Annotated[
        tuple[Event, ...], told("The ends of a run that are told.", ["promoted", "failed"])
    ] = USUAL_EVENTS
    allow: Annotated[
        tuple[Annotated[str, AfterValidator(check_host)], ...],
        told("Hosts that messages may go to.", ["hooks.slack.com"]),
    ] = ()

    @model_validator(mode="before")
    @classmethod
    def _holds_no_address(cls, block: Any) -> Any:
        if has_address(block):
            raise wrong_at("url", "recipes are stored; put the address in the environment, url_env")
        return block


class Retention(Block):
    """What `metafuse gc RECIPE` leaves alone."""

    keep: Annotated[
        Whole, told("How many promoted models before the current one stay.", 7, ge=0)
    ] = 3
    older_than_seconds: Annotated[
        Age, told("What is younger than this stays.", "14d", alias="older_than")
    ] = 7 * 86400.0
