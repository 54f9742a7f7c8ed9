"""The same bytes under two names: one candidate, which counts once."""

from collections.abc import Iterator, Sequence
from dataclasses import replace
from itertools import chain

from cluster.errors import NotFoundError, PreconditionError
from cluster.stores.open_store import open_store
from fusion.checkpoints.checkpoint import Checkpoint, checkpoint_digest
from jobs.candidates.find import Found
from jobs.candidates.skipped import Skipped

CODE = "the same bytes:"
# Few enough for a disk that seeks; candidates that differ at all differ in nearly every tensor.
SAMPLES = 16
SAMPLE_BYTES = 4 << 10
PIECE_BYTES = 1 << 20
# Beyond this, files that look the same in all samples are not read whole before a run.
COMPARED_BYTES = 4 << 30


def drop_copies(found: Found) -> Found:
    """The candidates without those that have the bytes of an earlier one; these become skipped."""
    copies = find_copies(found.candidates)
    kept = tuple(c for c in found.candidates if c.name not in copies)
    dropped = tuple(
        Skipped(c.name, c.uri, CODE, f"as {copies[c.name]}, so it counts once")
        for c in found.candidates
        if c.name in copies
    )
    return replace(found, candidates=kept, skipped=found.skipped + dropped)


def find_copies(candidates: Sequence[Checkpoint]) -> dict[str, str]:
    """Names of candidates whose tensors are the bytes of an earlier one, and the name of that.

    Etags tell it where they are equal: links, and objects of one content. Of files on a disk whose
    headers say the same, a few blocks are read, and all bytes (up to 4 GiB) where these are equal.
    """
    groups: dict[object, list[Checkpoint]] = {}
    copies: dict[str, str] = {}
    for candidate in candidates:
        group = groups.setdefault(_layout(candidate), [])
        earlier = next((known for known in group if _are_same(known, candidate)), None)
        if earlier is None:
            group.append(candidate)
        else:
            copies[candidate.name] = earlier.name
    return copies


def _layout(candidate: Checkpoint) -> object:
    """What copies have in common whatever their bytes."""
    adapter = candidate.adapter
    return (
        tuple(file.pin.size for file in candidate.shards),
        tuple((t.name, t.dtype, t.shape, t.start) for t in candidate.tensors),
        checkpoint_digest(adapter.base) if adapter else "",
        repr(sorted(adapter.settings.items())) if adapter else "",
    )


def _are_same(one: Checkpoint, other: Checkpoint) -> bool:
    if all(a.pin.etag == b.pin.etag for a, b in zip(one.shards, other.shards, strict=True)):
        return True
    if any(open_store(c.uri).is_remote for c in (one, other)):
        return False
    size = sum(file.pin.size for file in one.shards)
    spans = chain(_samples(one), _pieces(one) if size <= COMPARED_BYTES else ())
    try:
        return all(_read(one, *span) == _read(other, *span) for span in spans)
    except (NotFoundError, PreconditionError):
        return False  # it changed: the merge finds out, and says so


def _samples(candidate: Checkpoint) -> Iterator[tuple[int, int, int]]:
    """Index of the shard, first byte and size of blocks in the middle of tensors."""
    names = [file.name for file in candidate.shards]
    step = -(-len(candidate.tensors) // SAMPLES)
    for tensor in candidate.tensors[::step]:
        start = (tensor.start + tensor.end) // 2
        yield names.index(tensor.shard), start, min(SAMPLE_BYTES, tensor.end - start)


def _pieces(candidate: Checkpoint) -> Iterator[tuple[int, int, int]]:
    for index, file in enumerate(candidate.shards):
        for start in range(0, file.pin.size, PIECE_BYTES):
            yield index, start, min(PIECE_BYTES, file.pin.size - start)


def _read(candidate: Checkpoint, index: int, start: int, size: int) -> bytes:
    file = candidate.shards[index]
    content = bytearray(size)
    open_store(candidate.uri).read_into(
        file.name, memoryview(content), start=start, if_match=file.pin.etag,
        version=file.pin.version,
    )  # fmt: skip
    return bytes(content)
