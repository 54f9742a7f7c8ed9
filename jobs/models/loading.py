"""From a pinned checkpoint to a model: pinned bytes, checked tensors, no code of its own."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from fusion.checkpoints.checkpoint import Checkpoint
from jobs.errors import ModelError
from jobs.models.adapted_tensors import load_tensors
from jobs.models.contract import Model, Predictions
from jobs.models.encoders import load_huggingface
from jobs.models.lstm import MODEL_TYPE, load_lstm
from jobs.models.side_files import side_files
from jobs.models.unfilled import Unfilled

# loader(folder of the side files, checkpoint, labels)
Loader = Callable[[Path, Checkpoint, tuple[str, ...]], Unfilled]
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

    Names, shapes and side files are compared before a tensor is read. Tensors go from storage into
    the model, under their pins; only side files are in a private folder, as long as this runs.

    Raises:
        ModelError: not a kind of model that is offered, or files that do not fit together.
        NonFiniteError: a NaN or an infinity in a tensor.
        SourceChangedError: a file is no longer the pinned one.
    """
    loader, labels = find_loader(checkpoint)
    with side_files(checkpoint) as folder:
        unfilled = loader(folder, checkpoint, labels)
        read = load_tensors(checkpoint, unfilled.device)
        return LoadedModel(unfilled.fill(read.tensors), read.largest, read.where)


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


__all__ = ["MODELS", "LoadedModel", "Model", "Predictions", "load_model"]
