"""Checkpoints for tests: built byte by byte, so that each can be wrong in one chosen way."""

import io
import json
import tarfile
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Literal

from cluster.stores.open_store import open_store
from fusion.checkpoints.checkpoint import Checkpoint
from fusion.checkpoints.header import format_header
from fusion.dtypes import tensor_bytes
from jobs.candidates.find import Found, find_candidates
from jobs.candidates.pin import pin_checkpoint

BERT = {
    "model_type": "bert",
    "architectures": ["BertForSequenceClassification"],
    "hidden_size": 4,
    "id2label": {"0": "NEG", "1": "POS"},
}
TENSORS: Mapping[str, tuple[str, tuple[int, ...]]] = {
    "embeddings.weight": ("F32", (3, 4)),
    "classifier.weight": ("F32", (2, 4)),
}
NOW = 4e9
# {"w": 1} in protocol 4.
PICKLE = b"\x80\x04\x95\x0a\0\0\0\0\0\0\0}\x94\x8c\x01w\x94K\x01s."

WORDS = ("[PAD]", "[UNK]", "good")


def shard_bytes(
    tensors: Mapping[str, tuple[str, tuple[int, ...]]] = TENSORS, fill: bytes = b"\x00"
) -> bytes:
    """A safetensors file whose tensors are all `fill`."""
    header = format_header([(name, *kind) for name, kind in tensors.items()], {"format": "pt"})
    return header + fill * sum(tensor_bytes(*kind) for kind in tensors.values())


def raw_shard(header: object, content: bytes = b"") -> bytes:
    """A file with any header at all: bytes as they are, other values as JSON."""
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return len(text).to_bytes(8, "little") + text + content


def whole_checkpoint(
    *, config: Mapping[str, object] = BERT, words: tuple[str, ...] = WORDS, fill: bytes = b"\x00"
) -> dict[str, bytes]:
    """The files of a small single-file checkpoint, by name."""
    return {
        "model.safetensors": shard_bytes(fill=fill),
        "config.json": json.dumps(config).encode(),
        "vocab.txt": "".join(f"{word}\n" for word in words).encode(),
    }


def sharded_checkpoint() -> dict[str, bytes]:
    """The files of a checkpoint in two shards with an index."""
    first, second = (f"model-0000{i}-of-00002.safetensors" for i in (1, 2))
    names = list(TENSORS)
    return {
        first: shard_bytes({names[0]: TENSORS[names[0]]}),
        second: shard_bytes({names[1]: TENSORS[names[1]]}),
        "model.safetensors.index.json": json.dumps(
            {"metadata": {"total_size": 80}, "weight_map": {names[0]: first, names[1]: second}}
        ).encode(),
        "config.json": json.dumps(BERT).encode(),
    }


def write_files(folder: Path | str, files: Mapping[str, bytes]) -> str:
    """Put files below a folder or a memory:// URI.

    Returns:
        The URI.
    """
    store = open_store(str(folder))
    for name, content in files.items():
        store.put(name, content)
    return store.uri


SECOND = "model-00002-of-00002.safetensors"
SPLIT = sharded_checkpoint()


def without(files: Mapping[str, bytes], *gone: str) -> dict[str, bytes]:
    """All files but some."""
    return {name: content for name, content in files.items() if name not in gone}


def find(
    *patterns: object,
    on_refused: Literal["stop", "drop"] = "stop",
    settle_seconds: float = 0.0,
    now: float = NOW,
) -> Found:
    """What these patterns stand for, at a time when everything has settled."""
    return find_candidates(
        [str(pattern) for pattern in patterns],
        settle_seconds=settle_seconds,
        now=now,
        on_refused=on_refused,
    )


def names(found: Found) -> list[str]:
    """Names of the usable candidates."""
    return [candidate.name for candidate in found.candidates]


def pin(folder: object) -> Checkpoint:
    """One checkpoint, called "s"."""
    return pin_checkpoint(str(folder), name="s")[0]


def archive(kind: str) -> bytes:
    """What torch.save and friends leave, by the format of the file."""
    content = io.BytesIO()
    if kind == "zip":
        with zipfile.ZipFile(content, "w") as packed:
            packed.writestr("archive/data.pkl", PICKLE)
    elif kind == "tar":
        with tarfile.open(fileobj=content, mode="w") as packed:
            packed.addfile(tarfile.TarInfo("pickle"), io.BytesIO())
    else:
        content.write(PICKLE)
    return content.getvalue()
