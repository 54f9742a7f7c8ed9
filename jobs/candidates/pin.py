"""Find candidates, pin their bytes, read their headers: all that is known without a tensor."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace

from cluster.errors import ArchivedError, NotFoundError, PreconditionError
from cluster.stores.open_store import open_store
from cluster.stores.store import ObjectInfo, Store
from fusion.checkpoints.checkpoint import Checkpoint, PinnedFile, TensorSpec
from fusion.dtypes import TORCH_NAMES
from fusion.errors import HeaderError, MismatchError, TruncatedError
from jobs.candidates.absent import describe_absent
from jobs.candidates.adapters import (
    Base,
    bare_adapter_error,
    find_adapter_shards,
    is_adapter,
    read_adapter,
)
from jobs.candidates.changes import (
    AGAIN,
    changes_error,
    describe_change,
    find_pin,
    is_same_pin,
    make_pin,
)
from jobs.candidates.contents import lacking_error
from jobs.candidates.links import check_files, check_folder
from jobs.candidates.pinned_files import PinnedFiles
from jobs.candidates.shards import (
    INDEX,
    check_tensors,
    find_pickle,
    find_shards,
    is_pickle_name,
    pickle_error,
    read_header,
)
from jobs.candidates.side_files import (
    ADAPTER_CONFIG,
    check_sizes,
    is_quantised,
    read_config,
    read_index,
    read_modules,
    read_tokenizer,
)
from jobs.candidates.skipped import settle_advice
from jobs.candidates.travel import is_side_file, refuse_lost, sort_files
from jobs.errors import IncompleteError, PickleError, SourceChangedError, UnsafeNameError

# These make a candidate unusable tonight; the others are refusals, which stop the run.
SKIPPING = (IncompleteError, TruncatedError)
REFUSING = (HeaderError, PickleError, UnsafeNameError, MismatchError)
Refusal = HeaderError | PickleError | UnsafeNameError | MismatchError
Exclusion = IncompleteError | TruncatedError | Refusal
Pinned = tuple[Checkpoint, Mapping[str, int]] | Exclusion
# Finding waits for answers of the store, a dozen a candidate.
THREADS = 8


def pin_checkpoint(
    uri: str,
    *,
    name: str,
    settle_seconds: float = 0.0,
    now: float = 0.0,
    base: Base | None = None,
    place: str | None = None,
) -> tuple[Checkpoint, Mapping[str, int]]:
    """Pin all files of one checkpoint and read its headers and side files.

    Args:
        uri: URI of the checkpoint.
        name: name of the candidate.
        settle_seconds: age in seconds below which an object marks it as still being written.
        now: current time in seconds since 1970.
        base: with a base an adapter is a checkpoint as well; of a whole one it is not used.
        place: what the user named; links are followed inside it. None for `uri` itself.

    Returns:
        The checkpoint, and its vocabulary ({} where there is no tokenizer).

    Raises:
        IncompleteError, TruncatedError: a shard is missing, short, too young, or changed meanwhile.
        HeaderError, PickleError, UnsafeNameError, MismatchError: refused.
    """
    files = PinnedFiles(open_store(uri), uri, name, (), ())
    within = place or files.store.uri
    check_folder(files.store.uri, within, name=name)
    try:
        return _pin_files(files, base, settle_seconds=settle_seconds, now=now, place=within)
    except ArchivedError as error:
        raise IncompleteError(f"{name}: {error}; restore it", error.hint) from None
    except (NotFoundError, PreconditionError) as error:
        raise IncompleteError(
            f"{name} changed while it was being read: {error}", "run the same command again"
        ) from None


def open_pinned(
    uri: str,
    shards: Sequence[PinnedFile],
    side_files: Sequence[PinnedFile],
    *,
    name: str,
    base: Checkpoint | None = None,
) -> Checkpoint:
    """The checkpoint that an earlier driver pinned, read under its pins.

    Raises:
        SourceChangedError: a file is neither the pinned one any more nor kept as a version.
    """
    check_pins(uri, (*shards, *side_files))
    try:
        whole = Base(base, {}) if base is not None else None
        files = PinnedFiles(open_store(uri), uri, name, shards, side_files)
        return _read_pinned(files, whole, index=None)[0]
    except (NotFoundError, PreconditionError, *SKIPPING, *REFUSING) as error:
        raise SourceChangedError(
            f"{uri} is no longer what was pinned: {error}\nNothing was published.",
            AGAIN,
        ) from None


def check_pins(uri: str, files: Sequence[PinnedFile]) -> None:
    """Ask the store whether every file is still the pinned one, or can still be read as it was.

    Raises:
        SourceChangedError: names every object that changed, its old and its new pin.
    """
    store = open_store(uri)
    changes = []
    for file in files:
        now = find_pin(store, file.name)
        if not is_same_pin(file.pin, now) and not _is_kept(store, file):
            changes.append(describe_change(f"{uri}/{file.name}", file.pin, now))
    if changes:
        raise changes_error(changes)


def _pin_files(
    files: PinnedFiles, base: Base | None, *, settle_seconds: float, now: float, place: str
) -> tuple[Checkpoint, Mapping[str, int]]:
    store, name = files.store, files.name
    every = list(store.list())
    listed = {entry.key: entry for entry in every if "/" not in entry.key}
    if not listed:
        meant = describe_absent(files.uri)
        raise IncompleteError(f"{name}: nothing is in {files.uri}{meant}", "check the path")
    check_files(filter(_is_read, listed.values()), place, name=name)
    index = read_index(store, listed, name=name)
    adapts = base is not None and is_adapter(listed)
    if adapts:
        shards = find_adapter_shards(listed, name=name)
    elif is_adapter(listed):
        raise bare_adapter_error(store, listed[ADAPTER_CONFIG], name=name)
    else:
        shards = find_shards(listed, index, name=name)
    belongings = sort_files(
        every, shards, modules=read_modules(store, listed, name=name), is_adapter=adapts
    )
    _check_settled(listed.values(), settle_seconds, now, name)
    if not shards:
        pickle = find_pickle(store, listed.values())
        if pickle is not None:
            raise pickle_error(name, pickle)
        raise lacking_error([entry.key for entry in every], name=name)
    sides = _without_pickles(store, listed, belongings.side_files)
    sides += [ADAPTER_CONFIG] * adapts
    entries = {key: store.head(key) for key in (*shards, *sides)}
    check_files(entries.values(), place, name=name)
    _check_settled(entries.values(), settle_seconds, now, name)
    pins = {key: make_pin(store, entry) for key, entry in entries.items()}
    pinned = tuple(PinnedFile(shard, pins[shard]) for shard in shards)
    beside = tuple(PinnedFile(key, pin) for key, pin in pins.items() if key not in shards)
    whole = replace(files, shards=pinned, sides=beside)
    found, vocabulary = _read_pinned(whole, base, index=index)
    refuse_lost(belongings.lost, name=name)
    return replace(found, left_behind=belongings.left_behind), vocabulary


def _read_pinned(
    files: PinnedFiles, base: Base | None, *, index: Mapping[str, str] | None
) -> tuple[Checkpoint, Mapping[str, int]]:
    store, name, shards, sides = files.store, files.name, files.shards, files.sides
    check_sizes(files)
    tensors: list[TensorSpec] = []
    for shard in shards:
        tensors += read_header(store, shard, name=name)
    check_tensors(tensors, index, name=name)
    if base is not None and any(side.name == ADAPTER_CONFIG for side in sides):
        return read_adapter(files, tensors, base), base.vocabulary
    config = read_config(store, sides, name=name)
    if is_quantised(config, tensors):
        raise MismatchError(
            f"{name} is quantised: averaging codes gives nonsense. No tensor data was read.",
            "export it dequantised, in float16 or bfloat16",
            "E-QUANTISED",
        )
    tokenizer = read_tokenizer(store, sides, name=name)
    _check_dtypes(tensors, name)
    checkpoint = Checkpoint(
        name=name,
        uri=files.uri,
        shards=tuple(shards),
        tensors=tuple(tensors),
        side_files=tuple(sides),
        config=config,
        tokenizer_digest=tokenizer.digest,
        cutting=tokenizer.cutting,
        special_tokens=tokenizer.special_tokens,
    )
    return checkpoint, tokenizer.vocabulary


def _is_read(entry: ObjectInfo) -> bool:
    """Whether a file may be opened: one that has tensors or stands beside them."""
    return (
        entry.key.endswith((".safetensors", INDEX))
        or is_side_file(entry.key)
        or entry.key == ADAPTER_CONFIG
        or is_pickle_name(entry.key)
    )


def _check_dtypes(tensors: Iterable[TensorSpec], name: str) -> None:
    """Refuse numbers that nothing here computes with.

    Raises:
        MismatchError: a tensor has such a dtype, complex numbers above all.
    """
    strange = [tensor for tensor in tensors if tensor.dtype not in TORCH_NAMES]
    if strange:
        raise MismatchError(
            f"{name} has {len(strange)} tensors of a dtype that is not averaged, first "
            f"{strange[0].name}: {strange[0].dtype}. No tensor data was read.",
            "export it in float32, float16 or bfloat16",
            "E-DTYPE",
        )


def _without_pickles(
    store: Store, listed: Mapping[str, ObjectInfo], sides: Sequence[str]
) -> list[str]:
    """Side files but those that are called like a sentencepiece model and are a pickle."""
    return [
        key
        for key in sides
        if not (key.endswith(".model") and key in listed and find_pickle(store, [listed[key]]))
    ]


def _check_settled(
    entries: Iterable[ObjectInfo], settle_seconds: float, now: float, name: str
) -> None:
    newest = max(entries, key=lambda entry: entry.modified)
    age = now - newest.modified
    if settle_seconds and age < settle_seconds:
        seen = f"{age:.0f} s old" if age >= 0 else f"dated {-age:.0f} s in the future"
        raise IncompleteError(
            f"{name}: its newest object {newest.key} is {seen}, settle is {settle_seconds:.0f} s; "
            f"{settle_advice(settle_seconds - age)}",
            "it is taken once it has settled",
            settle_seconds - age,
        )


def _is_kept(store: Store, file: PinnedFile) -> bool:
    """Whether the pinned version can still be read, though it is no longer the newest."""
    if file.pin.version is None:
        return False
    try:
        store.read_into(
            file.name,
            memoryview(bytearray(min(file.pin.size, 1))),
            start=0,
            version=file.pin.version,
        )
    except NotFoundError:
        return False
    return True
