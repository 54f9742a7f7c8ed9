"""The recipe's resources: where and how to run, never what comes out."""

from typing import Annotated

from pydantic import (
    AfterValidator,
    Field,
)

from cluster.workers.runner import Resources
from jobs.recipes.fields import BitRate, Block, Bytes, Number, Seconds, Whole, told


class MergeResources(Block):
    """What the merge may use. `nic` is the network of one host; the head works if `on_head`."""

    workers: Annotated[
        Annotated[Whole, Field(ge=1, le=4096)] | None,
        told("How many workers merge; left out, as many as the hosts have room for.", 8),
    ] = None
    memory_bytes: Annotated[Bytes, told("Memory of one worker.", "2GiB", alias="memory")] = 1 << 30
    nic_bits: Annotated[
        Annotated[BitRate, Field(gt=0)] | None,
        told("Network of one host: more workers than fill it are not started.", "10Gbit",
             alias="nic"),
    ] = None  # fmt: skip
    on_head: Annotated[
        bool,
        told("Whether the head of a cluster merges too when there are other hosts.", example=True),
    ] = False


def _share_of_one_or_whole(value: float) -> float:
    if value > 1 and value != int(value):
        raise ValueError(f"expected a share of one GPU or whole ones, found {value:g}")
    return value


class EvaluateResources(Block):
    """What evaluations may use."""

    workers: Annotated[
        Annotated[Whole, Field(ge=1, le=4096)] | None,
        told("How many evaluations run at a time; left out, as many as the hosts have room for.",
             2),
    ] = None  # fmt: skip
    num_cpus: Annotated[Number, told("CPUs of one evaluation.", 4, gt=0)] = 1.0
    num_gpus: Annotated[
        Number,
        AfterValidator(_share_of_one_or_whole),
        told("GPUs of one evaluation: a share of one, or whole ones.", 0.5, ge=0),
    ] = 0.0
    accelerator_type: Annotated[
        Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_.-]*$")] | None,
        told("The accelerator that the host of an evaluation must have, in Ray's words.", "A100"),
    ] = None
    memory_bytes: Annotated[
        Bytes | None,
        told("Memory that is asked of Ray for one evaluation; `plan` refuses models that need "
             "more. Left out, none is asked.", "4GiB", alias="memory"),
    ] = None  # fmt: skip
    limit_seconds: Annotated[
        Seconds | None,
        told("Time of one evaluation, after which it counts as failed.", "30m",
             alias="time_limit"),
    ] = None  # fmt: skip

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

    merge: Annotated[
        MergeResources, told("What the merge may use.", {"workers": 8, "memory": "2GiB"})
    ] = MergeResources()
    evaluate: Annotated[
        EvaluateResources, told("What evaluations may use.", {"workers": 2, "num_gpus": 1})
    ] = EvaluateResources()
