"""Config, index and tokenizer files of a checkpoint, read strictly and as data."""

import hashlib
import json
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from cluster.stores.store import ObjectInfo, Store
from fusion.checkpoints.checkpoint import Pin, PinnedFile, TensorSpec
from fusion.dtypes import SUB_BYTE_BITS
from jobs.candidates.contents import find_content
from jobs.candidates.cutting import SETTINGS, TOKENIZER, describe_cutting, find_special_tokens
from jobs.candidates.marks import check_marks
from jobs.candidates.pinned_files import PinnedFiles
from jobs.candidates.shards import INDEX
from jobs.candidates.travel import MODULES, find_modules
from jobs.errors import IncompleteError

CONFIG = "config.json"
ADAPTER_CONFIG = "adapter_config.json"
MAX_CONFIG_BYTES = 1 << 20
MAX_CONFIG_DEPTH = 32
MAX_INDEX_BYTES = 64 << 20
MAX_TOKENIZER_BYTES = 64 << 20
MAX_JSON_BYTES = 64 << 20
SMALL_BYTES = 4 << 20
QUANTISED_NAMES = re.compile(
    r".*\.(qweight|qzeros|absmax|SCB|weight_packed|weight_scale|weight_scale_inv)|.*\.quant_state\..*"
)


def read_index(
    store: Store, entries: Mapping[str, ObjectInfo], *, name: str
) -> Mapping[str, str] | None:
    """Tensor -> shard; None where there is no index.

    Raises:
        IncompleteError: the index cannot be read (it may still be being written).
    """
    if INDEX not in entries:
        return None
    entry = entries[INDEX]
    pinned = PinnedFile(INDEX, Pin(entry.size, entry.etag))
    where = f"{name}/{INDEX}"
    table = _parse_object(_read_whole(store, pinned, MAX_INDEX_BYTES, where), where)
    weight_map = table.get("weight_map")
    if not isinstance(weight_map, dict) or not all(
        isinstance(shard, str) for shard in weight_map.values()
    ):
        raise IncompleteError(f"{where} has no weight_map from tensors to shards")
    return weight_map


def read_modules(store: Store, entries: Mapping[str, ObjectInfo], *, name: str) -> tuple[str, ...]:
    """Folders that modules.json names as parts of the model; () where there is none.

    Raises:
        IncompleteError: the file is no JSON.
        MismatchError: the file does not name folders.
    """
    if MODULES not in entries:
        return ()
    entry, where = entries[MODULES], f"{name}/{MODULES}"
    pinned = PinnedFile(MODULES, Pin(entry.size, entry.etag))
    content = _read_whole(store, pinned, MAX_CONFIG_BYTES, where)
    return find_modules(_parse_json(content, where), name=name)


def read_config(
    store: Store, sides: Sequence[PinnedFile], *, name: str, file: str = CONFIG
) -> Mapping[str, object]:
    """The parsed config.json, or another file of its kind; {} where there is none.

    Raises:
        IncompleteError: the file is too large, nested too deep, or no JSON object.
    """
    for side in sides:
        if side.name == file:
            where = f"{name}/{file}"
            config = _parse_object(_read_whole(store, side, MAX_CONFIG_BYTES, where), where)
            _check_depth(config, where)
            return config
    return {}


def check_sizes(files: PinnedFiles) -> None:
    """Refuse side files in JSON that are too large to be parsed, here or by a library.

    Raises:
        IncompleteError: names the first.
    """
    for file in files.sides:
        is_parsed_here = file.name == TOKENIZER
        if file.name.endswith(".json") and file.pin.size > SMALL_BYTES and not is_parsed_here:
            where = f"{files.name}/{file.name}"
            check_marks(_read_whole(files.store, file, MAX_JSON_BYTES, where), where)


def is_quantised(config: Mapping[str, object], tensors: Sequence[TensorSpec]) -> bool:
    """Whether tensors hold codes instead of numbers."""
    return bool(config.get("quantization_config")) or any(
        tensor.dtype.startswith("F8_")
        or tensor.dtype in SUB_BYTE_BITS
        or QUANTISED_NAMES.fullmatch(tensor.name)
        for tensor in tensors
    )


@dataclass(frozen=True, slots=True)
class TokenizerFiles:
    """What the tokenizer files of a checkpoint say.

    Attributes:
        vocabulary: token -> id; {} where there is no tokenizer, or a sentencepiece model alone.
        digest: sha256 over tokens, merges and added tokens (not over file bytes), of a
            sentencepiece model alone over its bytes; "" where there is no tokenizer.
        cutting: what decides how texts are cut, see `describe_cutting`.
        special_tokens: special tokens that the settings name.
    """

    vocabulary: Mapping[str, int]
    digest: str
    cutting: Mapping[str, str] = field(default_factory=dict)
    special_tokens: tuple[str, ...] = ()


def read_tokenizer(store: Store, sides: Sequence[PinnedFile], *, name: str) -> TokenizerFiles:
    """What there is of a tokenizer.

    tokenizer.json goes before vocab.json and vocab.txt; the same tokens and merges have the same
    digest in all of them.

    Raises:
        IncompleteError: a file that is too large or not what its name says.
    """
    files = {file.name: file for file in sides}

    def read(key: str) -> bytes:
        return _read_whole(store, files[key], MAX_TOKENIZER_BYTES, f"{name}/{key}")

    def read_ids(key: str) -> dict[str, int]:
        return _check_ids(_parse_object(read(key), f"{name}/{key}"), f"{name}/{key}")

    vocabulary: dict[str, int] = {}
    rules: list[str] = []
    table: dict[str, Any] | None = None
    if TOKENIZER in files:
        table = _parse_object(read(TOKENIZER), f"{name}/{TOKENIZER}")
        vocabulary, rules = _find_tokens(table, f"{name}/{TOKENIZER}")
    elif "vocab.json" in files:
        vocabulary = read_ids("vocab.json")
        rules = _parse_merges(read("merges.txt")) if "merges.txt" in files else []
    elif "vocab.txt" in files:
        lines = _split_lines(read("vocab.txt"))
        vocabulary = {token: index for index, token in enumerate(lines)}
    if vocabulary and TOKENIZER not in files and "added_tokens.json" in files:
        vocabulary |= read_ids("added_tokens.json")
    models = [] if vocabulary else sorted(key for key in files if key.endswith(".model"))
    if not vocabulary and not models:
        return TokenizerFiles({}, "")
    if vocabulary:
        digest = hashlib.sha256(json.dumps([sorted(vocabulary.items()), rules]).encode())
    else:
        digest = hashlib.sha256(b"".join(hashlib.sha256(read(m)).digest() for m in models))
    own = next((key for key in SETTINGS if key in files), None)
    settings = _parse_object(read(own), f"{name}/{own}") if own else {}
    cutting = describe_cutting(table, settings)
    return TokenizerFiles(vocabulary, digest.hexdigest(), cutting, find_special_tokens(settings))


def _find_tokens(table: Mapping[str, Any], where: str) -> tuple[dict[str, int], list[str]]:
    """Vocabulary with added tokens; merges, or the scores of a unigram model."""
    model = table.get("model")
    if not isinstance(model, dict):
        raise IncompleteError(f"{where} has no model")
    raw, rules = model.get("vocab"), model.get("merges") or []
    try:
        if isinstance(raw, list):
            tokens = {token: index for index, (token, _) in enumerate(raw)}
            rules = [repr(float(score)) for _, score in raw]
        else:
            tokens = dict(raw or {})
            rules = [rule if isinstance(rule, str) else " ".join(rule) for rule in rules]
        tokens |= {added["content"]: added["id"] for added in table.get("added_tokens") or ()}
    except (TypeError, ValueError, KeyError, OverflowError):
        raise IncompleteError(
            f"{where} is not a tokenizer: its vocabulary cannot be read"
        ) from None
    return _check_ids(tokens, where), rules


def _check_ids(table: Mapping[Any, Any], where: str) -> dict[str, int]:
    for token, index in table.items():
        if not isinstance(token, str) or type(index) is not int or index < 0:
            raise IncompleteError(f"{where}: token {token!r:.60} has id {index!r:.60}")
    return dict(table)


def _parse_merges(content: bytes) -> list[str]:
    return [line for line in _split_lines(content) if line and not line.startswith("#version")]


def _split_lines(content: bytes) -> list[str]:
    """Lines by line feed alone: vocabularies hold other characters that `splitlines` cuts at."""
    lines = content.decode(errors="replace").replace("\r\n", "\n").split("\n")
    return lines if lines[-1] else lines[:-1]


def _read_whole(store: Store, file: PinnedFile, limit: int, where: str) -> bytes:
    if file.pin.size > limit:
        raise IncompleteError(f"{where} has {file.pin.size:,} bytes, at most {limit:,} are read")
    content = store.read(file.name, if_match=file.pin.etag, version=file.pin.version)
    if len(content) != file.pin.size:
        raise IncompleteError(
            f"{where}: {len(content):,} of {file.pin.size:,} bytes arrived",
            "run the same command again",
        )
    return content


def _parse_object(content: bytes, where: str) -> dict[str, Any]:
    table = _parse_json(content, where)
    if not isinstance(table, dict):
        raise IncompleteError(f"{where} is not an object of JSON")
    return table


def _parse_json(content: bytes, where: str) -> object:
    check_marks(content, where)
    try:
        return json.loads(content, object_pairs_hook=_refuse_repeats)
    except (ValueError, RecursionError) as error:
        other = find_content(content)
        if other is not None:
            raise IncompleteError(f"{where} is {other.what}", other.hint) from None
        raise IncompleteError(
            f"{where} is not JSON: {error!s:.120}", "wait until it is written, or copy it again"
        ) from None


def _refuse_repeats(pairs: list[tuple[str, object]]) -> dict[str, object]:
    table = dict(pairs)
    if len(table) != len(pairs):
        raise ValueError("a name is given twice")
    return table


def _check_depth(config: Mapping[str, object], where: str) -> None:
    level: Iterable[object] = [config]
    for _ in range(MAX_CONFIG_DEPTH):
        level = [
            inner
            for value in level
            if isinstance(value, dict | list)
            for inner in (value.values() if isinstance(value, dict) else value)
        ]
    if level:
        raise IncompleteError(f"{where} is nested more than {MAX_CONFIG_DEPTH} deep")
