"""A model that waits for its tensors, and the device that they go to."""

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch

from jobs.models.contract import Model

CPU = torch.device("cpu")


@dataclass(frozen=True, slots=True, eq=False)
class Unfilled:
    """A model that was found to fit its checkpoint, before a tensor is read.

    Attributes:
        device: device that the model's tensors belong on.
        fill: makes the model from all tensors of the checkpoint, by the name on disk.
    """

    device: torch.device
    fill: Callable[[Mapping[str, torch.Tensor]], Model]


def choose_device() -> torch.device:
    """The GPU that was assigned to this process, else the CPU.

    Ray assigns one (`resources.evaluate.num_gpus`) by CUDA_VISIBLE_DEVICES, and hides all others by
    an empty value. Without that variable no GPU was assigned: a run in a process of its own then
    computes on the CPU, also where the machine has a GPU, as other processes may be using it.
    """
    assigned = os.environ.get("CUDA_VISIBLE_DEVICES", "")
    is_assigned = assigned not in ("", "-1") and torch.cuda.is_available()
    return torch.device("cuda", 0) if is_assigned else CPU
