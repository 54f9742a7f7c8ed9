"""The shards of one checkpoint: which they are, their pins, their headers."""

import math
import re
from collections.abc import Collection, Iterable, Mapping, Sequence

from cluster.stores.store import ObjectInfo, Store
from fusion.checkpoints.checkpoint import Pin, PinnedFile, TensorSpec
from fusion.checkpoints.header import LENGTH_BYTES, header_length, parse_header
from fusion.dtypes import FLOATS
from fusion.errors import HeaderError, TruncatedError
from jobs.candidates.contents import find_content
from jobs.errors import IncompleteError, PickleError, UnsafeNameError

# Headers of most shards fit, so one read tells all; the rest takes a second one.
SPECULATIVE_BYTES = 64 << 10
INDEX = "model.safetensors.index.json"
SINGLE = "model.safetensors"
SHARD_NAME = re.compile(r"[A-Za-z0-9._-]{1,255}\.safetensors")
NUMBERED = re.compile(r".*-\d+-of-(\d+)\.safetensors")
# What a trainer leaves beside a model: none of these makes a folder a checkpoint.
TRAINING_NAMES = re.compile(r"(optimizer|scheduler|rng_state|scaler|training_args|random_states).*")
PICKLE_NAMES = re.compile(r".*\.(bin|pt|pth|ckpt|pkl|pickle)")
WEIGHT_NAMES = re.compile(r"(weight|bias|lora_embedding_[AB])$")
TAR_MARK = slice(257, 262)
SNIFFED_BYTES = 262
WAY_OUT = "export the checkpoint again, or set select.on_refused: drop"


def find_shards(
    present: Collection[str], index: Mapping[str, str] | None, *, name: str
) -> tuple[str, ...]:
    """Names of the shards of a checkpoint, sorted; () where there is none at all.

    Args:
        present: names of the files in the checkpoint's folder.
        index: tensor -> shard; None where there is no index.
        name: name of the checkpoint, for messages.

    Raises:
        UnsafeNameError: a name that is not a plain file name.
        IncompleteError: shards are missing, or it cannot be told which they are.
    """
    there = sorted(file for file in present if file.endswith(".safetensors"))
    if index is None:
        return _find_unlisted(there, name)
    wanted = sorted(set(index.values()))
    _check_names(wanted, name, "the index names shard")
    _check_distinct(wanted, name)
    missing = [shard for shard in wanted if shard not in present]
    if missing and SINGLE in there and SINGLE not in wanted:
        raise IncompleteError(
            f"{name}: {INDEX} is stale: it names {len(missing)} shards that are not there, and "
            f"{SINGLE} is there, which it does not name",
            f"remove {INDEX} if {SINGLE} is the model, or copy the missing shards",
        )
    if missing:
        raise IncompleteError(
            f"{name}: {len(missing)} of {len(wanted)} shards missing, first {missing[0]}, which "
            f"{INDEX} names",
            "wait until it is written, or copy the missing files",
        )
    if not wanted or (SINGLE in there and SINGLE not in wanted):
        found = f"{SINGLE} and an index that does not name it" if wanted else "an empty index"
        raise IncompleteError(f"{name} has {found}: {INDEX}", "remove the one that is stale")
    return tuple(wanted)


def _find_unlisted(there: Sequence[str], name: str) -> tuple[str, ...]:
    if SINGLE in there:
        return (SINGLE,)
    numbered = NUMBERED.fullmatch(there[0]) if there else None
    if len(there) > 1 or (numbered and int(numbered[1]) > 1):
        raise IncompleteError(
            f"{name}: {len(there)} .safetensors files and no {INDEX}",
            "the index is written last: wait, or copy it",
        )
    _check_names(there, name, "there is a shard")
    return tuple(there)


def _check_names(shards: Iterable[str], name: str, where: str) -> None:
    for shard in shards:
        if not SHARD_NAME.fullmatch(shard):
            raise UnsafeNameError(
                f"{name}: {where} {shard!r:.120}, a plain file name of letters, digits, dots and "
                "dashes is expected; nothing was opened",
                WAY_OUT,
            )


def _check_distinct(shards: Sequence[str], name: str) -> None:
    """Names that only differ in case are one file on some disks."""
    seen: dict[str, str] = {}
    for shard in shards:
        other = seen.setdefault(shard.casefold(), shard)
        if other != shard:
            raise UnsafeNameError(
                f"{name}: the index names shards {other} and {shard}, which are one file where "
                "case does not count; nothing was opened",
                WAY_OUT,
            )


def find_pickle(store: Store, entries: Iterable[ObjectInfo]) -> str | None:
    """The first file whose content is a pickle, zip or tar, None if there is none.

    Optimizer states and the like are passed over.
    """
    for entry in entries:
        if TRAINING_NAMES.fullmatch(entry.key) or entry.outside:
            continue
        first = bytearray(min(entry.size, SNIFFED_BYTES))
        if first:
            store.read_into(entry.key, memoryview(first), start=0, if_match=entry.etag)
            if is_pickle(first):
                return entry.key
    return None


def is_pickle_name(file: str) -> bool:
    """Whether files of such a name are pickles as a rule."""
    return bool(PICKLE_NAMES.fullmatch(file))


def is_pickle(first: bytes | bytearray) -> bool:
    """Whether a file that begins like this is a pickle, or a zip or tar that may hold one."""
    return first.startswith((b"PK", b"\x80")) or first[TAR_MARK] == b"ustar"


def pickle_error(name: str, file: str) -> PickleError:
    """The refusal of a checkpoint that would have to be unpickled."""
    return PickleError(
        f"{name}: {file} is a pickle or an archive of pickles, which can run code when it is "
        "opened, and no safetensors file; it was not opened",
        "convert it where it is trusted: model.save_pretrained(folder, safe_serialization=True)",
    )


def read_header(store: Store, file: PinnedFile, *, name: str) -> tuple[TensorSpec, ...]:
    """The tensors of one pinned shard, by at most two ranged reads.

    Raises:
        PreconditionError: the shard changed meanwhile.
        TruncatedError: the shard ends too early.
        PickleError: the shard's content is a pickle.
        IncompleteError: the file is something else: a pointer, a web page, an archive.
        HeaderError: the shard's header is refused.
    """
    where, pin = f"{name}/{file.name}", file.pin
    first = _read_range(store, file.name, pin, 0, min(SPECULATIVE_BYTES, pin.size))
    try:
        length = header_length(first[:LENGTH_BYTES], file_size=pin.size, shard=where)
        end = LENGTH_BYTES + length
        if end > len(first):
            first += _read_range(store, file.name, pin, len(first), end - len(first))
        specs = parse_header(first[:end], file_size=pin.size, shard=where)
    except (HeaderError, TruncatedError) as error:
        # A header of 128 bytes begins like a pickle too, but is followed by "{".
        if is_pickle(first) and first[LENGTH_BYTES : LENGTH_BYTES + 1] != b"{":
            raise pickle_error(name, file.name) from None
        content = find_content(first)
        if content is not None:
            raise IncompleteError(f"{where} is {content.what}", content.hint) from None
        if isinstance(error, HeaderError):
            raise HeaderError(str(error), WAY_OUT) from None
        raise TruncatedError(str(error), "copy it again, or wait until it is written") from None
    return tuple(TensorSpec(s.name, s.dtype, s.shape, file.name, s.start, s.end) for s in specs)


def _read_range(store: Store, key: str, pin: Pin, start: int, size: int) -> bytes:
    content = bytearray(size)
    store.read_into(key, memoryview(content), start=start, if_match=pin.etag, version=pin.version)
    return bytes(content)


def check_tensors(
    tensors: Sequence[TensorSpec], index: Mapping[str, str] | None, *, name: str
) -> None:
    """Every tensor once, and just where the index says.

    Raises:
        HeaderError: a tensor in two shards, or not where the index puts it.
        IncompleteError: no tensor at all, or weights without elements.
    """
    _check_elements(tensors, name)
    where: dict[str, str] = {}
    for tensor in tensors:
        if tensor.name in where:
            raise HeaderError(
                f"{name}: tensor {tensor.name!r} is in {where[tensor.name]} and in {tensor.shard}",
                WAY_OUT,
            )
        where[tensor.name] = tensor.shard
    if not where:
        raise IncompleteError(f"{name} holds no tensor")
    if index is not None and index != where:
        odd = sorted(set(index.items()) ^ set(where.items()))
        first = odd[0][0]
        raise HeaderError(
            f"{name}: {len({tensor for tensor, _ in odd})} of {len(where.keys() | index.keys())} "
            f"tensors are not where the index says: {first!r:.200} is in "
            f"{where.get(first, 'no shard')}, by the index in {index.get(first, 'none')} ({INDEX})",
            WAY_OUT,
        )


def _check_elements(tensors: Sequence[TensorSpec], name: str) -> None:
    """Refuse what DeepSpeed ZeRO-3 leaves of a model that was saved without being gathered."""
    weights = [t for t in tensors if t.dtype in FLOATS and WEIGHT_NAMES.search(t.name)]
    empty = [t for t in weights if not math.prod(t.shape)]
    if empty:
        first = f"{empty[0].name!r:.200} is {list(empty[0].shape)}"
        raise IncompleteError(
            f"{name}: {len(empty)} of {len(weights)} weights are empty, without elements, first "
            f"{first}: it was saved from DeepSpeed ZeRO-3 without being gathered",
            "make whole files of the training checkpoint with zero_to_fp32.py, or save with "
            "stage3_gather_16bit_weights_on_model_save",
        )
