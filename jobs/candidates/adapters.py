"""Adapters as candidates: recognised by their files, read with the base that the user names."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

from cluster.stores.seals import split_seal
from cluster.stores.store import ObjectInfo, Store
from fusion.checkpoints.adapter import parse_adapter
from fusion.checkpoints.checkpoint import Checkpoint, Pin, PinnedFile, TensorSpec
from fusion.errors import MismatchError
from jobs.candidates.pinned_files import PinnedFiles
from jobs.candidates.shards import INDEX, SINGLE, pickle_error
from jobs.candidates.side_files import ADAPTER_CONFIG, read_config, read_tokenizer
from jobs.errors import IncompleteError

ADAPTER_SHARD = "adapter_model.safetensors"
PICKLED = "adapter_model.bin"


@dataclass(frozen=True, slots=True)
class Base:
    """The model that adapters change, pinned, and its vocabulary ({} where it is not known)."""

    checkpoint: Checkpoint
    vocabulary: Mapping[str, int]


def is_adapter(present: Collection[str]) -> bool:
    """Whether these files are those of an adapter and not of a whole checkpoint."""
    return ADAPTER_CONFIG in present and not {SINGLE, INDEX} & set(present)


def bare_adapter_error(store: Store, config: ObjectInfo, *, name: str) -> IncompleteError:
    """The error of an adapter where no base is named: says what it was trained on.

    Args:
        store: store of the candidate.
        config: its adapter_config.json.
        name: name of the candidate.

    Raises:
        IncompleteError: adapter_config.json cannot be read.
    """
    pinned = PinnedFile(ADAPTER_CONFIG, Pin(config.size, config.etag))
    settings = read_config(store, [pinned], name=name, file=ADAPTER_CONFIG)
    model = settings.get("base_model_name_or_path")
    trained = f"; it says that it was trained on {model!r:.120}" if model else ""
    return IncompleteError(
        f"{name} is an adapter, not a whole checkpoint: averaging its factors is not averaging "
        f"what they stand for{trained}",
        "name the model that it was trained on as base: PATH, or merge it into that model",
    )


def find_adapter_shards(present: Collection[str], *, name: str) -> tuple[str, ...]:
    """The one file that holds an adapter's tensors.

    Raises:
        PickleError: the file is there as a pickle only.
        IncompleteError: the file is not there.
    """
    if ADAPTER_SHARD in present:
        return (ADAPTER_SHARD,)
    if PICKLED in present:
        raise pickle_error(name, PICKLED)
    raise IncompleteError(
        f"{name} has {ADAPTER_CONFIG} and no {ADAPTER_SHARD}",
        "wait until it is written, or save it with safe_serialization=True",
    )


def read_adapter(files: PinnedFiles, tensors: Sequence[TensorSpec], base: Base) -> Checkpoint:
    """The candidate that a base and an adapter's pinned files make together.

    Raises:
        MismatchError: an adapter that is not offered, or does not fit the base.
        IncompleteError: a side file that cannot be read.
    """
    name, whole = files.name, base.checkpoint
    settings = read_config(files.store, files.sides, name=name, file=ADAPTER_CONFIG)
    adapter = parse_adapter(settings, tensors, whole, name=name)
    vocabulary = read_tokenizer(files.store, files.sides, name=name).vocabulary
    if vocabulary and base.vocabulary and vocabulary != base.vocabulary:
        raise MismatchError(
            f"{name} brings a tokenizer of {len(vocabulary)} tokens that is not that of its base "
            f"{whole.name} ({len(base.vocabulary)} tokens). No tensor data was read.",
            "name the base that it was trained on, with its tokenizer",
            "E-VOCABULARY",
        )
    return Checkpoint(
        name=name,
        uri=files.uri,
        shards=tuple(files.shards),
        tensors=tuple(tensors),
        side_files=tuple(files.sides),
        config=whole.config if adapter.config is None else adapter.config,
        tokenizer_digest=whole.tokenizer_digest,
        adapter=adapter,
        cutting=whole.cutting,
        special_tokens=whole.special_tokens,
    )


def describe_pins(checkpoint: Checkpoint) -> dict[str, str]:
    """The pins of all files as a manifest tells them."""
    return {
        file.name: f"{file.pin.size} {file.pin.version or split_seal(file.pin.etag)[0]}"
        for file in (*checkpoint.shards, *checkpoint.side_files)
    }
