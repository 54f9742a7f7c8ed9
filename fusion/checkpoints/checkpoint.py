"""Checkpoints as values: which tensors they hold, where, and which bytes were meant."""

import hashlib
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

from fusion.checkpoints.heads import count_labels


@dataclass(frozen=True, slots=True)
class Pin:
    """Which bytes of one object were meant.

    Attributes:
        size: size of the object in bytes.
        etag: what a conditional read must match. S3: the ETag. Local: a token of modification time,
            inode and size.
        version: S3 VersionId where the bucket keeps versions, else None.
    """

    size: int
    etag: str
    version: str | None = None


@dataclass(frozen=True, slots=True)
class PinnedFile:
    """One object of a checkpoint, by its name inside the checkpoint."""

    name: str
    pin: Pin


@dataclass(frozen=True, slots=True)
class LeftBehind:
    """A file or folder of a checkpoint that does not go with a model made of it, and why."""

    name: str
    reason: str


@dataclass(frozen=True, slots=True)
class TensorSpec:
    """One named array in a shard.

    Attributes:
        name: name of the tensor as written on disk.
        dtype: safetensors name: "F32", "BF16", "I64" ...
        shape: length of each axis; () for a scalar.
        shard: name of the file that holds the tensor.
        start: byte offset of the first element in the shard (header included).
        end: byte offset after the last element in the shard (header included).
    """

    name: str
    dtype: str
    shape: tuple[int, ...]
    shard: str
    start: int
    end: int


@dataclass(frozen=True, slots=True)
class AdaptedTensor:
    """A tensor of a base to which an adapter adds `scale` times B times A.

    Attributes:
        a: factor A [rank, inputs], in a file of the adapter.
        b: factor B [outputs, rank], in a file of the adapter.
        scale: factor of the product B A: alpha / rank, or alpha / sqrt(rank).
        is_transposed: whether the base keeps the tensor as [inputs, outputs].
        module: PEFT's name of the module, without the prefix.
        is_embedding: whether A and B are factors of an embedding.
    """

    a: TensorSpec
    b: TensorSpec
    scale: float
    is_transposed: bool
    module: str
    is_embedding: bool

    @property
    def rank(self) -> int:
        """Rows of A."""
        return self.a.shape[0]


@dataclass(frozen=True, slots=True)
class Adapter:
    """What makes a checkpoint an adapter: it changes some tensors of a base.

    Attributes:
        base: the pinned checkpoint that the adapter changes.
        adapted: tensors to which a product is added, by their name in the model.
        saved: tensors that replace the base's or that only the adapter has, by their name in the
            model; specs are of the adapter's file.
        settings: the parsed adapter_config.json.
        body: what the base's names get in front in the model; "" where they stay.
        left_out: names of the base's tensors that the model does not have: another head.
        config: config of the model where it is not that of the base; None where it is.
    """

    base: "Checkpoint"
    adapted: Mapping[str, AdaptedTensor]
    saved: Mapping[str, TensorSpec]
    settings: Mapping[str, object]
    body: str = ""
    left_out: tuple[str, ...] = ()
    config: Mapping[str, object] | None = None


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """A pinned checkpoint: headers and side files read, no tensor byte.

    Attributes:
        name: short name, unique in its run; tables and errors use it.
        uri: URI for `open_store`; shard and side file names are keys below it.
        shards: the `.safetensors` files, by name.
        tensors: tensors in file order (shard name, then offset).
        side_files: config, tokenizer files and the like, by name; some are in folders.
        config: the parsed config.json, of an adapter that of its base, with the adapter's own head
            where it brings one; {} where there is none.
        tokenizer_digest: sha256 of vocabulary, merges and added tokens, of an adapter those of its
            base; "" where there are none.
        adapter: what the checkpoint changes of which base; None for a whole checkpoint.
        cutting: what decides how the tokenizer cuts texts, by name, as JSON; what its files do not
            say is absent.
        special_tokens: special tokens that the settings of the tokenizer name.
        renamed: name on disk of each tensor, by its name here; {} where all are called as on disk.
        left_behind: files that do not go with a model made of the checkpoint.
    """

    name: str
    uri: str
    shards: tuple[PinnedFile, ...]
    tensors: tuple[TensorSpec, ...]
    side_files: tuple[PinnedFile, ...]
    config: Mapping[str, object] = field(default_factory=dict)
    tokenizer_digest: str = ""
    adapter: Adapter | None = None
    cutting: Mapping[str, str] = field(default_factory=dict)
    special_tokens: tuple[str, ...] = ()
    renamed: Mapping[str, str] = field(default_factory=dict)
    left_behind: tuple[LeftBehind, ...] = ()


def model_tensors(checkpoint: Checkpoint) -> tuple[TensorSpec, ...]:
    """The tensors of the model that a checkpoint stands for, in file order.

    They are its own; for an adapter those of its base, with those that it replaces, then those
    that only it has.
    """
    adapter = checkpoint.adapter
    if adapter is None:
        return checkpoint.tensors
    left_out = set(adapter.left_out)
    kept = {
        adapter.body + spec.name: spec for spec in adapter.base.tensors if spec.name not in left_out
    }
    return tuple(replace(spec, name=name) for name, spec in {**kept, **adapter.saved}.items())


def checkpoint_digest(checkpoint: Checkpoint) -> str:
    """Hex sha256 over the pins of all files, by name: equal exactly if the same bytes are meant.

    Neither the checkpoint's name nor its URI goes in; the base of an adapter does. Local pins hold
    inode and time, so a copy of a folder has another digest.
    """
    found = hashlib.sha256()
    for file in sorted((*checkpoint.shards, *checkpoint.side_files), key=lambda file: file.name):
        pin = file.pin
        found.update(f"{file.name}\0{pin.size}\0{pin.etag}\0{pin.version or ''}\n".encode())
    if checkpoint.adapter is not None:
        found.update(f"base\0{checkpoint_digest(checkpoint.adapter.base)}\n".encode())
    return found.hexdigest()


def num_parameters(checkpoint: Checkpoint) -> int:
    """Elements of all tensors; tied tensors are stored, and counted, once."""
    return sum(math.prod(tensor.shape) for tensor in model_tensors(checkpoint))


def num_bytes(checkpoint: Checkpoint) -> int:
    """Bytes of all tensors of the model."""
    return sum(tensor.end - tensor.start for tensor in model_tensors(checkpoint))


def group_candidates(checkpoints: Sequence[Checkpoint]) -> tuple[tuple[Checkpoint, ...], ...]:
    """Checkpoints that could be averaged with each other, by what their configs say they are.

    One group a (model_type, architectures, number of labels), in the order of first appearance.
    """
    groups: dict[object, list[Checkpoint]] = {}
    for checkpoint in checkpoints:
        groups.setdefault(describe_kind(checkpoint), []).append(checkpoint)
    return tuple(tuple(group) for group in groups.values())


def describe_kind(checkpoint: Checkpoint) -> str:
    """What a checkpoint's config says it is: "bert BertForSequenceClassification 2 labels"."""
    config = checkpoint.config
    architectures = config.get("architectures")
    names = " ".join(map(str, architectures)) if isinstance(architectures, list) else ""
    counted = config.get("id2label"), config.get("num_labels")
    has_labels = names.endswith(("SequenceClassification", "TokenClassification"))
    count = count_labels(config) if has_labels or counted != (None, None) else 0
    parts = (config.get("model_type"), names, f"{count} labels" if count else "")
    return " ".join(str(part) for part in parts if part) or "without config"
