"""From a pinned checkpoint to a model: pinned bytes, checked tensors, no code of its own."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors import safe_open

from fusion.checkpoints.checkpoint import Checkpoint
from fusion.errors import NonFiniteError
from jobs.errors import ModelError
from jobs.models.contract import Model, Predictions
from jobs.models.encoders import load_huggingface
from jobs.models.local_copy import local_copy
from jobs.models.lstm import MODEL_TYPE, load_lstm

Loader = Callable[[Path, Mapping[str, object], tuple[str, ...]], Model]
MODELS: dict[str, Loader] = {
    MODEL_TYPE: load_lstm,
    "bert": load_huggingface,
    "roberta": load_huggingface,
    "gpt2": load_huggingface,
}


@dataclass(frozen=True, slots=True)
class LoadedModel:
    """A model and what its tensors looked like.

    Attributes:
        model: predicts.
        largest: largest magnitude of any element.
        where: name of the tensor that holds it.
    """

    model: Model
    largest: float
    where: str


def load_model(checkpoint: Checkpoint) -> LoadedModel:
    """Load a classifier from the pinned bytes of a checkpoint.

    The files are copied to a private folder first, under their pins, so that what is loaded is
    what was pinned; the folder is gone afterwards.

    Raises:
        ModelError: not a kind of model that is offered, or files that do not fit together.
        NonFiniteError: a NaN or an infinity in a tensor.
        SourceChangedError: a file is no longer the pinned one.
    """
    loader, labels = find_loader(checkpoint)
    with local_copy(checkpoint) as folder:
        largest, where = _check_tensors(checkpoint, folder)
        return LoadedModel(loader(folder, checkpoint.config, labels), largest, where)


def find_loader(checkpoint: Checkpoint) -> tuple[Loader, tuple[str, ...]]:
    """The loader for a checkpoint's model_type, and its labels in order.

    Raises:
        ModelError: unknown kind, code of its own, or no labels.
    """
    config = checkpoint.config
    kind = config.get("model_type")
    if "auto_map" in config:
        raise ModelError(
            f"{checkpoint.name} brings code of its own (auto_map); it was not run",
            "export it as one of: " + ", ".join(MODELS),
        )
    if not isinstance(kind, str) or kind not in MODELS:
        raise ModelError(
            f"{checkpoint.name} is a {kind!r} model; classifiers of these kinds can be evaluated: "
            + ", ".join(MODELS)
        )
    return MODELS[kind], read_labels(checkpoint)


def read_labels(checkpoint: Checkpoint) -> tuple[str, ...]:
    """Class names in the order of the model's outputs.

    Raises:
        ModelError: id2label is missing, or does not number them from 0.
    """
    table = checkpoint.config.get("id2label")
    if not isinstance(table, Mapping):
        # transformers leaves the two default labels out of config.json.
        return ("LABEL_0", "LABEL_1")
    if {str(key) for key in table} != {str(i) for i in range(len(table))}:
        raise ModelError(f"{checkpoint.name}: id2label does not number labels from 0: {table}")
    return tuple(str(table.get(str(i), table.get(i))) for i in range(len(table)))


def _check_tensors(checkpoint: Checkpoint, folder: Path) -> tuple[float, str]:
    """Largest magnitude and where it is; refuses what is not finite."""
    largest, where = 0.0, ""
    for shard in sorted(folder.glob("*.safetensors")):
        with safe_open(shard, framework="pt") as tensors:
            for name in tensors.keys():  # noqa: SIM118  # not a mapping
                tensor = tensors.get_tensor(name)
                if not tensor.is_floating_point() or tensor.numel() == 0:
                    continue
                bad = int((~torch.isfinite(tensor)).sum())
                if bad:
                    raise NonFiniteError(
                        f"{name} of {checkpoint.name} has {bad} NaN or infinite values of "
                        f"{tensor.numel():,}",
                        "",
                        checkpoint.name,
                        name,
                    )
                magnitude = float(tensor.abs().max())
                if magnitude > largest:
                    largest, where = magnitude, name
    return largest, where


__all__ = ["MODELS", "LoadedModel", "Model", "Predictions", "load_model"]
