"""MODELS: which family loads a pinned checkpoint, and its head; no code of its own is run."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from fusion.checkpoints.checkpoint import Checkpoint
from fusion.scores.contract import Head
from jobs.candidates.heads import check_head
from jobs.models.adapted_tensors import load_tensors
from jobs.models.contract import Model
from jobs.models.lstm import MODEL_TYPE, load_lstm
from jobs.models.offered import check_offered
from jobs.models.side_folder import side_files
from jobs.models.unfilled import Unfilled

# loader(folder of the side files, checkpoint, labels)
Loader = Callable[[Path, Checkpoint, tuple[str, ...]], Unfilled]


def _load_huggingface(folder: Path, checkpoint: Checkpoint, labels: tuple[str, ...]) -> Unfilled:
    # Half of the seconds of a small evaluation is the import of the library.
    from jobs.models.classifiers import load_huggingface

    return load_huggingface(folder, checkpoint, labels)


def _load_decoder(folder: Path, checkpoint: Checkpoint, labels: tuple[str, ...]) -> Unfilled:
    from jobs.models.language_models import load_decoder

    return load_decoder(folder, checkpoint, labels)


MODELS: Mapping[tuple[str, Head], Loader] = {
    (MODEL_TYPE, "classes"): load_lstm,
    ("bert", "classes"): _load_huggingface,
    ("roberta", "classes"): _load_huggingface,
    ("gpt2", "classes"): _load_huggingface,
    ("bert", "labels"): _load_huggingface,
    ("roberta", "labels"): _load_huggingface,
    ("gpt2", "labels"): _load_huggingface,
    ("bert", "value"): _load_huggingface,
    ("roberta", "value"): _load_huggingface,
    ("gpt2", "value"): _load_huggingface,
    ("gpt2", "tokens"): _load_decoder,
}


@dataclass(frozen=True, slots=True)
class LoadedModel:
    """A model and what its tensors looked like.

    Attributes:
        model: the model, ready to predict.
        largest: largest magnitude of any element.
        where: name of the tensor that holds the largest magnitude.
    """

    model: Model
    largest: float
    where: str


def load_model(checkpoint: Checkpoint, head: Head = "classes") -> LoadedModel:
    """Load a model with a certain head from the pinned bytes of a checkpoint.

    Names, shapes and side files are compared before a tensor is read. Tensors go from storage into
    the model, under their pins; only side files are in a private folder, as long as this runs.

    Raises:
        ModelError: not a kind of model that is offered, or files that do not fit together.
        NonFiniteError: a NaN or an infinity in a tensor.
        SourceChangedError: a file is no longer the pinned one.
    """
    loader, labels = find_loader(checkpoint, head)
    with side_files(checkpoint) as folder:
        unfilled = loader(folder, checkpoint, labels)
        read = load_tensors(checkpoint, unfilled.device)
        return LoadedModel(unfilled.fill(read.tensors), read.largest, read.where)


def find_loader(checkpoint: Checkpoint, head: Head) -> tuple[Loader, tuple[str, ...]]:
    """The loader for a checkpoint's model_type and head, and its labels in order.

    Raises:
        ModelError: unknown kind, code of its own, another head, or labels that cannot be read.
    """
    kind = check_offered(checkpoint, head)
    return MODELS[kind, head], check_head(checkpoint, head)
