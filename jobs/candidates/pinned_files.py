"""The pinned files of one checkpoint, before their headers are read."""

from collections.abc import Sequence
from dataclasses import dataclass

from cluster.stores.store import Store
from fusion.checkpoints.checkpoint import PinnedFile


@dataclass(frozen=True, slots=True)
class PinnedFiles:
    """What a checkpoint is read from.

    Attributes:
        store: store that holds the files.
        uri: URI of the checkpoint.
        name: name of the candidate.
        shards: files with tensors.
        sides: files without tensors: config, tokenizer and the like.
    """

    store: Store
    uri: str
    name: str
    shards: Sequence[PinnedFile]
    sides: Sequence[PinnedFile]
