"""Config, index and tokenizer files of a checkpoint, read strictly and as data."""

import hashlib
import json
import re
from collections.abc import Mapping, Sequence
from typing import Any

from cluster.store import ObjectInfo, Store
from fusion.checkpoint import PinnedFile, TensorSpec
from jobs.errors import IncompleteError

SIDE_FILES = re.compile(
    r"config\.json|generation_config\.json|tokenizer[A-Za-z0-9_.-]*\.json|vocab\.(json|txt)"
    r"|merges\.txt|special_tokens_map\.json|added_tokens\.json|[A-Za-z0-9_-]*\.model"
    r"|chat_template\.(json|jinja)|preprocessor_config\.json"
)
INDEX = "model.safetensors.index.json"
MAX_CONFIG_BYTES = 4 << 20
MAX_INDEX_BYTES = 64 << 20
MAX_TOKENIZER_BYTES = 256 << 20
QUANTISED_SUFFIXES = (".qweight", ".qzeros", ".absmax", ".weight_scale", ".weight_scale_inv")


def read_index(store: Store, entries: Mapping[str, ObjectInfo]) -> Mapping[str, str]:
    """Tensor -> shard; {} where there is no index.

    Raises:
        IncompleteError: the index cannot be read (it may still be being written).
    """
    if INDEX not in entries:
        return {}
    table = _read_object(store, INDEX, entries[INDEX].etag, MAX_INDEX_BYTES)
    weight_map = table.get("weight_map")
    if not isinstance(weight_map, dict) or not all(
        isinstance(shard, str) for shard in weight_map.values()
    ):
        raise IncompleteError(f"{INDEX} has no weight_map of names")
    return weight_map


def read_config(store: Store, sides: Sequence[PinnedFile], name: str) -> Mapping[str, object]:
    """The parsed config.json; {} where there is none.

    Raises:
        IncompleteError: it cannot be read.
    """
    for file in sides:
        if file.name == "config.json":
            return _read_object(store, file.name, file.pin.etag, MAX_CONFIG_BYTES)
    return {}


def is_quantised(config: Mapping[str, object], tensors: Sequence[TensorSpec]) -> bool:
    """Whether tensors hold codes instead of numbers."""
    return "quantization_config" in config or any(
        tensor.dtype.startswith("F8_") or tensor.name.endswith(QUANTISED_SUFFIXES)
        for tensor in tensors
    )


def read_vocabulary(
    store: Store, sides: Sequence[PinnedFile], name: str
) -> tuple[Mapping[str, int], str]:
    """Token -> id, and a digest over tokens, merges and added tokens (not over file bytes).

    ({}, "") where there is no tokenizer.
    """
    pins = {file.name: file.pin for file in sides}

    def content(key: str) -> bytes:
        if pins[key].size > MAX_TOKENIZER_BYTES:
            raise IncompleteError(f"{key} has {pins[key].size:,} bytes; no tokenizer is that large")
        return store.read(key, if_match=pins[key].etag, version=pins[key].version)

    vocabulary: dict[str, int] = {}
    merges: object = None
    if "tokenizer.json" in pins:
        table = _parse_object(content("tokenizer.json"), "tokenizer.json")
        vocabulary, merges = _fast_vocabulary(table)
    elif "vocab.json" in pins:
        table = _parse_object(content("vocab.json"), "vocab.json")
        vocabulary = {str(token): int(index) for token, index in table.items()}
        merges = content("merges.txt").decode(errors="replace") if "merges.txt" in pins else None
    elif "vocab.txt" in pins:
        lines = content("vocab.txt").decode(errors="replace").splitlines()
        vocabulary = {token: index for index, token in enumerate(lines)}
    if not vocabulary:
        models = [key for key in pins if key.endswith(".model")]
        digests = [hashlib.sha256(content(key)).hexdigest() for key in models]
        return {}, "".join(digests)[:64]
    canonical = json.dumps([sorted(vocabulary.items()), merges], sort_keys=True)
    return vocabulary, hashlib.sha256(canonical.encode()).hexdigest()


def _fast_vocabulary(table: Mapping[str, Any]) -> tuple[dict[str, int], object]:
    model = table.get("model")
    model = model if isinstance(model, dict) else {}
    raw = model.get("vocab", {})
    if isinstance(raw, dict):
        vocabulary = {str(token): int(index) for token, index in raw.items()}
    else:  # unigram: a list of (token, score)
        vocabulary = {str(entry[0]): index for index, entry in enumerate(raw)}
    for added in table.get("added_tokens") or ():
        vocabulary[str(added["content"])] = int(added["id"])
    merges = [
        entry if isinstance(entry, str) else " ".join(entry) for entry in model.get("merges") or ()
    ]
    return vocabulary, merges


def _read_object(store: Store, key: str, etag: str, limit: int) -> dict[str, Any]:
    entry = store.head(key)
    if entry.size > limit:
        raise IncompleteError(f"{key} has {entry.size:,} bytes, at most {limit:,} are read")
    return _parse_object(store.read(key, if_match=etag), key)


def _parse_object(content: bytes, key: str) -> dict[str, Any]:
    try:
        table = json.loads(content)
    except (ValueError, RecursionError):
        raise IncompleteError(f"{key} is not JSON (still being written?)") from None
    if not isinstance(table, dict):
        raise IncompleteError(f"{key} is not a JSON object")
    return table
