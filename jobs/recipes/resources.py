"""The recipe's resources: where and how to run, never what comes out."""

from typing import Annotated

from pydantic import (
    AfterValidator,
    Field,
)

from cluster.workers.runner import Resources
from jobs.recipes.fields import BitRate, Block, Bytes, Number, Seconds, Whole


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
