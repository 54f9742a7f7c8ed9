"""Models of transformers without a second copy: bare first, then filled through its own renames."""

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import huggingface_hub.constants
import torch
import transformers
from transformers.conversion_mapping import get_model_conversion_mapping
from transformers.core_model_loading import convert_and_load_state_dict_in_model
from transformers.modeling_utils import LoadStateDictConfig
from transformers.utils import ContextManagers

from fusion.checkpoints.checkpoint import TensorSpec
from fusion.methods.contract import TORCH_DTYPES
from jobs.errors import ModelError

META = torch.device("meta")


@dataclass(frozen=True, slots=True, eq=False)
class Skeleton:
    """A model of transformers whose tensors have shapes and no memory.

    Attributes:
        model: the model on the meta device.
        problems: names that do not fit, by the library's name for the kind of problem:
            `missing_keys`, `unexpected_keys`, `mismatched_keys`, `conversion_errors`; kinds without
            a problem are absent.
    """

    model: Any
    problems: Mapping[str, list[str]]


def quiet_library() -> None:
    """Keep transformers offline and off the terminal, in the whole process from now on.

    An environment that sets HF_HUB_OFFLINE or TRANSFORMERS_NO_ADVISORY_WARNINGS itself is heeded.
    """
    if "HF_HUB_OFFLINE" not in os.environ:
        # The library has read its environment by now; processes started later inherit this one.
        os.environ["HF_HUB_OFFLINE"] = "1"
        huggingface_hub.constants.HF_HUB_OFFLINE = True
    os.environ.setdefault("TRANSFORMERS_NO_ADVISORY_WARNINGS", "1")
    transformers.utils.logging.set_verbosity_error()
    transformers.utils.logging.disable_progress_bar()


def make_skeleton(kind: Any, folder: Path, specs: Sequence[TensorSpec]) -> Skeleton:
    """A bare model of a class of transformers, and what of a checkpoint does not fit it.

    Names go through the library's own conversion: other prefixes, renamed layers, ties. No tensor
    is read, and no memory is taken, whatever sizes config.json claims.

    Args:
        kind: class of transformers.
        folder: folder that holds config.json.
        specs: the tensors of the checkpoint.

    Raises:
        ModelError: a tensor in a dtype that no model computes with.
    """
    quiet_library()
    odd = [spec for spec in specs if spec.dtype not in TORCH_DTYPES]
    if odd:
        raise ModelError(
            f"{odd[0].name} is {odd[0].dtype}; models are evaluated from {', '.join(TORCH_DTYPES)}",
            "export the checkpoint in one of these",
        )
    config = kind.config_class.from_pretrained(folder, local_files_only=True)
    config.dtype = torch.float32
    contexts = kind.get_init_context(
        dtype=torch.float32, is_quantized=False, _is_ds_init_called=False, allow_all_kernels=None
    )
    with ContextManagers(contexts):
        model = kind(config)
    bare = {
        spec.name: torch.empty(spec.shape, dtype=TORCH_DTYPES[spec.dtype], device=META)
        for spec in specs
    }
    _, found = _convert(model, bare, META)
    model.tie_weights(missing_keys=found.missing_keys, recompute_mapping=False)
    model._adjust_missing_and_unexpected_keys(found)  # noqa: SLF001  # a step of from_pretrained
    problems = {**found.to_dict(), "conversion_errors": found.conversion_errors}
    said = {key: sorted(map(str, value)) for key, value in problems.items() if value}
    return Skeleton(model, said)


def fill_skeleton(
    skeleton: Skeleton, tensors: Mapping[str, torch.Tensor], device: torch.device
) -> Any:
    """The model, ready to predict, with the bits that `from_pretrained` gives it.

    Tensors in float32 on `device` become the model's own without a copy. Buffers that no file
    holds are computed by the library; where a conversion joins or splits tensors, both are in
    memory until it is done.

    Args:
        skeleton: skeleton without problems.
        tensors: all tensors of the checkpoint, by the name on disk.
        device: device of the model.
    """
    model = skeleton.model
    load, found = _convert(model, tensors, device)
    model._finalize_model_loading(model, load, found)  # noqa: SLF001  # a step of from_pretrained
    return model.eval()


def _convert(
    model: Any, tensors: Mapping[str, torch.Tensor], device: torch.device
) -> tuple[Any, Any]:
    """What transformers.PreTrainedModel.from_pretrained does between reading and finishing."""
    load = LoadStateDictConfig(
        device_map={"": device},
        dtype=torch.float32,
        weight_mapping=get_model_conversion_mapping(model),
    )
    found, _ = convert_and_load_state_dict_in_model(model, dict(tensors), load)
    return load, found
