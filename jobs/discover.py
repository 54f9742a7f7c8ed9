"""Find candidates, pin their bytes, read their headers: all that is known without a tensor."""

import fnmatch
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from cluster.errors import NotFoundError, PreconditionError, UnreachableError
from cluster.store import ObjectInfo, Store, open_store
from fusion.agreement import find_mismatches
from fusion.checkpoint import Checkpoint, Pin, PinnedFile, TensorSpec
from fusion.errors import HeaderError, MismatchError, TruncatedError
from fusion.header import LENGTH_BYTES, header_length, parse_header
from jobs.errors import (
    IncompleteError,
    NoCandidatesError,
    PickleError,
    SourceChangedError,
    UnsafeNameError,
)
from jobs.side_files import SIDE_FILES, is_quantised, read_config, read_index, read_vocabulary

SPECULATIVE_BYTES = 64 << 10
SHARD_NAME = re.compile(r"[A-Za-z0-9._-]{1,255}\.safetensors")
PICKLE_NAMES = re.compile(r".*\.(bin|pt|pth|ckpt|pkl|pickle)")
PICKLE_MAGIC = (b"PK\x03\x04", b"\x80\x02", b"\x80\x03", b"\x80\x04", b"\x80\x05")
WILD = re.compile(r"[*?\[]")
# These make a candidate unusable tonight; the others are refusals, which stop the run.
SKIPPING = (IncompleteError, TruncatedError)
REFUSING = (HeaderError, PickleError, UnsafeNameError, MismatchError)


@dataclass(frozen=True, slots=True)
class Skipped:
    """A checkpoint that was found and is not used, with the reason."""

    name: str
    uri: str
    code: str
    reason: str


@dataclass(frozen=True, slots=True)
class Found:
    """What the patterns of a recipe stand for.

    Attributes:
        candidates: usable ones, in the order of patterns and names.
        skipped: the others.
        vocabularies: token -> id by candidate name, where there is a tokenizer.
    """

    candidates: tuple[Checkpoint, ...]
    skipped: tuple[Skipped, ...]
    vocabularies: Mapping[str, Mapping[str, int]]


def find_candidates(
    patterns: Sequence[str],
    *,
    settle_seconds: float,
    now: float,
    on_refused: Literal["stop", "drop"] = "stop",
) -> Found:
    """Find, pin and read the headers of all candidates.

    Args:
        patterns: paths, globs and s3:// prefixes. A place that holds no checkpoint itself stands
            for those right below it.
        settle_seconds: a checkpoint with a younger object counts as still being written.
        now: seconds since 1970.
        on_refused: whether a hostile or unreadable checkpoint stops everything or is skipped.

    Raises:
        NoCandidatesError: nothing matched.
        HeaderError, PickleError, UnsafeNameError, MismatchError: refused, unless dropped.
    """
    places: dict[str, None] = {}
    counts = []
    for pattern in patterns:
        matched = _expand(pattern)
        counts.append(f"  {pattern}: {len(matched)} checkpoints")
        places.update(dict.fromkeys(matched))
    if not places:
        raise NoCandidatesError(
            "no candidate was found:\n" + "\n".join(counts) + "\nNothing was evaluated.",
            "a checkpoint is a folder with .safetensors files; check the paths under candidates",
        )
    names = _short_names(list(places))
    candidates: list[Checkpoint] = []
    skipped: list[Skipped] = []
    vocabularies: dict[str, Mapping[str, int]] = {}
    for uri, name in names.items():
        try:
            checkpoint, vocabulary = pin_checkpoint(
                uri, name=name, settle_seconds=settle_seconds, now=now
            )
        except SKIPPING as error:
            skipped.append(Skipped(name, uri, error.code, str(error)))
        except REFUSING as error:
            if on_refused == "stop":
                raise
            skipped.append(Skipped(name, uri, error.code, str(error)))
        else:
            candidates.append(checkpoint)
            vocabularies[name] = vocabulary
    return Found(tuple(candidates), tuple(skipped), vocabularies)


def drop_mismatched(found: Found, *, cast: bool) -> Found:
    """The candidates that agree with most of the others; those that differ become skipped."""
    mismatches = find_mismatches(found.candidates, cast=cast, vocabularies=found.vocabularies)
    reasons = {m.checkpoint: m for m in reversed(mismatches)}
    kept = tuple(c for c in found.candidates if c.name not in reasons)
    dropped = tuple(
        Skipped(c.name, c.uri, reasons[c.name].code, reasons[c.name].text)
        for c in found.candidates
        if c.name in reasons
    )
    return Found(kept, found.skipped + dropped, found.vocabularies)


def pin_checkpoint(
    uri: str, *, name: str, settle_seconds: float = 0.0, now: float = 0.0
) -> tuple[Checkpoint, Mapping[str, int]]:
    """Pin all files of one checkpoint and read its headers and side files.

    Returns:
        The checkpoint, and its vocabulary ({} where there is no tokenizer).

    Raises:
        IncompleteError, TruncatedError: a shard is missing, short, or too young.
        HeaderError, PickleError, UnsafeNameError, MismatchError: refused.
    """
    store = open_store(uri)
    entries = {entry.key: entry for entry in store.list() if "/" not in entry.key}
    index = read_index(store, entries)
    shard_names = _shard_names(store, entries, index, name)
    _check_settled(entries.values(), settle_seconds, now, name)
    shards: list[PinnedFile] = []
    tensors: list[TensorSpec] = []
    for shard in shard_names:
        pin, specs = _read_header(store, shard, f"{name}/{shard}")
        shards.append(PinnedFile(shard, pin))
        tensors += specs
    _check_tensors(tensors, index, name)
    sides = tuple(
        PinnedFile(key, _pin(store.head(key)))
        for key in sorted(entries)
        if SIDE_FILES.fullmatch(key)
    )
    config = read_config(store, sides, name)
    if is_quantised(config, tensors):
        raise MismatchError(
            f"{name} is quantised: averaging codes gives nonsense. No tensor data was read.",
            "export it dequantised, in float16 or bfloat16",
            "E-QUANTISED",
        )
    vocabulary, tokenizer_digest = read_vocabulary(store, sides, name)
    checkpoint = Checkpoint(
        name, uri, tuple(shards), tuple(tensors), sides, config, tokenizer_digest
    )
    return checkpoint, vocabulary


def check_pins(checkpoint: Checkpoint) -> None:
    """Ask the store whether every file is still the pinned one.

    Raises:
        SourceChangedError: names the object, the old and the new pin.
    """
    store = open_store(checkpoint.uri)
    for file in (*checkpoint.shards, *checkpoint.side_files):
        try:
            etag: str = store.head(file.name).etag
        except NotFoundError:
            etag = "gone"
        if etag != file.pin.etag and file.pin.version is None:
            raise SourceChangedError(
                f"{checkpoint.uri}/{file.name} was {file.pin.etag} when it was pinned and is "
                f"{etag} now. Nothing was published.",
                "run the same command again: it plans anew with what is there now",
            )


def _expand(pattern: str) -> list[str]:
    """URIs of the checkpoints that a pattern stands for, sorted."""
    match = WILD.search(pattern)
    root = pattern if match is None else pattern[: match.start()].rpartition("/")[0]
    root = root.rstrip("/") or ("/" if pattern.startswith("/") else ".")
    rest = pattern[len(root) :].strip("/") if match is not None else ""
    store = open_store(root)
    folders = sorted({key.rpartition("/")[0] for key in _model_keys(store)})
    if rest:
        depth = rest.count("/")
        wanted = [
            folder for folder in folders if folder.count("/") == depth and _matches(folder, rest)
        ]
    elif "" in folders:
        wanted = [""]
    else:
        wanted = [folder for folder in folders if "/" not in folder]
    return [f"{store.uri}/{folder}" if folder else store.uri for folder in wanted]


def _matches(folder: str, pattern: str) -> bool:
    pairs = zip(folder.split("/"), pattern.split("/"), strict=True)
    return all(fnmatch.fnmatchcase(part, glob) for part, glob in pairs)


def _model_keys(store: Store) -> Iterable[str]:
    """Keys of files that make a folder a checkpoint, whole or not."""
    for entry in store.list():
        file = entry.key.rpartition("/")[2]
        if (
            file.endswith((".safetensors", ".safetensors.index.json"))
            or file == "config.json"
            or PICKLE_NAMES.fullmatch(file)
        ):
            yield entry.key


def _short_names(uris: Sequence[str]) -> dict[str, str]:
    """The shortest ends of the URIs that tell them apart."""
    depth = 1
    while True:
        names = {uri: "/".join(uri.rstrip("/").split("/")[-depth:]) for uri in uris}
        if len(set(names.values())) == len(uris) or depth > 64:
            return names
        depth += 1


def _shard_names(
    store: Store, entries: Mapping[str, ObjectInfo], index: Mapping[str, str], name: str
) -> list[str]:
    if index:
        wanted = sorted(set(index.values()))
        unsafe = [shard for shard in wanted if not SHARD_NAME.fullmatch(shard)]
        if unsafe:
            raise UnsafeNameError(
                f"{name}: the index names shard {unsafe[0]!r:.120}, which is not a plain file name "
                "in the checkpoint; nothing was opened",
                "export the checkpoint again, or set select.on_refused: drop",
            )
        missing = [shard for shard in wanted if shard not in entries]
        if missing:
            raise IncompleteError(
                f"{len(missing)} of {len(wanted)} shards missing, first {missing[0]}",
                "wait until it is written, or copy the missing files",
            )
        return wanted
    present = [key for key in entries if key.endswith(".safetensors")]
    if "model.safetensors" in present:
        return ["model.safetensors"]
    if len(present) == 1:
        return present
    if present:
        raise IncompleteError(
            f"{len(present)} .safetensors files and no model.safetensors.index.json",
            "the index is written last: wait, or copy it",
        )
    _refuse_pickles(store, entries, name)
    raise IncompleteError("no .safetensors file", "wait until it is written")


def _refuse_pickles(store: Store, entries: Mapping[str, ObjectInfo], name: str) -> None:
    for key, entry in entries.items():
        if entry.size < 4:
            continue
        magic = bytearray(4)
        store.read_into(key, memoryview(magic), start=0, if_match=entry.etag)
        if magic.startswith(PICKLE_MAGIC):
            raise PickleError(
                f"{name} holds {key}, a format that can run code when it is opened, and no "
                ".safetensors file; it was not opened",
                "convert it where it is trusted: model.save_pretrained(folder, "
                "safe_serialization=True)",
            )


def _check_settled(
    entries: Iterable[ObjectInfo], settle_seconds: float, now: float, name: str
) -> None:
    newest = max((entry.modified for entry in entries), default=0.0)
    if settle_seconds and now - newest < settle_seconds:
        raise IncompleteError(
            f"newest object is {max(0.0, now - newest):.0f} s old, settle {settle_seconds:.0f} s",
            f"{name} is taken once it has settled",
        )


def _read_header(store: Store, shard: str, where: str) -> tuple[Pin, tuple[TensorSpec, ...]]:
    """Pin and header of one shard: a HEAD and at most two ranged reads."""
    entry = store.head(shard)
    pin = _pin(entry)
    first = _read_range(store, shard, pin, 0, min(SPECULATIVE_BYTES, entry.size))
    length = header_length(first[:LENGTH_BYTES], file_size=entry.size, shard=where)
    end = LENGTH_BYTES + length
    if end > len(first):
        first += _read_range(store, shard, pin, len(first), end - len(first))
    specs = parse_header(first[:end], file_size=entry.size, shard=where)
    plain = (TensorSpec(s.name, s.dtype, s.shape, shard, s.start, s.end) for s in specs)
    return pin, tuple(plain)


def _read_range(store: Store, key: str, pin: Pin, start: int, size: int) -> bytes:
    content = bytearray(size)
    try:
        store.read_into(
            key, memoryview(content), start=start, if_match=pin.etag, version=pin.version
        )
    except (PreconditionError, UnreachableError):
        raise IncompleteError(f"{key} changed while its header was read") from None
    return bytes(content)


def _pin(entry: ObjectInfo) -> Pin:
    return Pin(entry.size, entry.etag, entry.version)


def _check_tensors(tensors: Sequence[TensorSpec], index: Mapping[str, str], name: str) -> None:
    """Every tensor once, and just where the index says."""
    where: dict[str, str] = {}
    for tensor in tensors:
        if tensor.name in where:
            raise HeaderError(
                f"{name}: {tensor.name!r} is in {where[tensor.name]} and in {tensor.shard}"
            )
        where[tensor.name] = tensor.shard
    if index and index != where:
        odd = min(set(index.items()) ^ set(where.items()))[0]
        raise HeaderError(
            f"{name}: the index puts {odd!r} in {index.get(odd, 'no shard')}, the headers in "
            f"{where.get(odd, 'no shard')}",
            "export the checkpoint again, or set select.on_refused: drop",
        )
