"""From a pinned checkpoint to a model: pinned bytes, checked tensors, no code of its own."""

import contextlib
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors import safe_open

from cluster.errors import NotFoundError, PreconditionError
from cluster.store import Store, open_store
from fusion.checkpoint import Checkpoint, PinnedFile
from fusion.errors import NonFiniteError
from jobs.errors import ModelError, SourceChangedError
from jobs.models.huggingface import load_huggingface
from jobs.models.lstm import MODEL_TYPE, load_lstm
from jobs.models.prediction import Model, Predictions

COPY_BYTES = 8 << 20
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


@contextlib.contextmanager
def local_copy(checkpoint: Checkpoint) -> Iterator[Path]:
    """A private folder with the pinned files, while the block runs.

    Of an adapter it holds the base with what the adapter adds, and the base's side files.
    """
    with tempfile.TemporaryDirectory(prefix="metafuse-") as folder:
        if checkpoint.adapter is None:
            _copy_all(checkpoint, (*checkpoint.shards, *checkpoint.side_files), Path(folder))
            yield Path(folder)
        else:
            from jobs.models.dense import write_dense

            dense = write_dense(checkpoint, Path(folder))
            base = checkpoint.adapter.base
            _copy_all(base, base.side_files, dense)
            yield dense


def _copy_all(checkpoint: Checkpoint, files: Sequence[PinnedFile], folder: Path) -> None:
    store = open_store(checkpoint.uri)
    for file in files:
        try:
            _copy(store, file, folder / file.name)
        except (PreconditionError, NotFoundError):
            raise SourceChangedError(
                f"{checkpoint.uri}/{file.name} is no longer what was pinned "
                f"({file.pin.etag}). Nothing was published.",
                "run the same command again: it plans anew with what is there now",
            ) from None


def _copy(store: Store, file: PinnedFile, target: Path) -> None:
    buffer = memoryview(bytearray(min(COPY_BYTES, max(1, file.pin.size))))
    with target.open("xb") as stream:
        for start in range(0, file.pin.size, COPY_BYTES):
            part = buffer[: min(COPY_BYTES, file.pin.size - start)]
            store.read_into(
                file.name, part, start=start, if_match=file.pin.etag, version=file.pin.version
            )
            stream.write(part)


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
