"""Side files too large to be held in memory: read in pieces, copied from store to store."""

import contextlib
from collections.abc import Iterator, Sequence

from cluster.digests import combine_crc64nvme
from cluster.errors import NotFoundError, PreconditionError
from cluster.stores.open_store import open_store
from cluster.stores.store import Part, Store
from fusion.canonical import from_json
from fusion.checkpoints.checkpoint import Checkpoint, PinnedFile
from fusion.manifests.model import FileEntry, ModelManifest
from jobs.candidates.changes import changed
from jobs.merge.complete import describe_file
from jobs.outputs.conditional_puts import read_or_none
from jobs.outputs.keys import MODEL_MANIFEST

# Files up to this size are held whole, as they are where they are parsed.
LARGE_BYTES = 64 << 20
PIECE_BYTES = 16 << 20


def is_large(file: PinnedFile) -> bool:
    """Whether a side file is read in pieces."""
    return file.pin.size > LARGE_BYTES


def read_pieces(checkpoint: Checkpoint, file: PinnedFile) -> Iterator[memoryview]:
    """A pinned file in pieces of 16 MiB, each valid until the next one is asked for.

    Raises:
        SourceChangedError: it is no longer the pinned one.
    """
    store, pin = open_store(checkpoint.uri), file.pin
    buffer = memoryview(bytearray(min(PIECE_BYTES, pin.size)))
    try:
        reader = store.open_reader(file.name, if_match=pin.etag, version=pin.version)
        with contextlib.closing(reader):
            for start in range(0, pin.size, PIECE_BYTES):
                piece = buffer[: min(PIECE_BYTES, pin.size - start)]
                reader.read_into(piece, start=start)
                yield piece
    except (PreconditionError, NotFoundError):
        raise changed(store, file.name, pin) from None


def copy_files(
    checkpoint: Checkpoint, files: Sequence[PinnedFile], store: Store, *, folder: str
) -> tuple[FileEntry, ...]:
    """Copy side files into a model's folder; one that is in its manifest is not copied again.

    Raises:
        SourceChangedError: a file is no longer the pinned one.
    """
    if not files:
        return ()
    content = read_or_none(store, f"{folder}/{MODEL_MANIFEST}")
    there = from_json(ModelManifest, content).files if content is not None else ()
    known = {(entry.name, entry.size): entry for entry in there}
    return tuple(
        known.get((file.name, file.pin.size)) or _copy(checkpoint, file, store, folder)
        for file in files
    )


def _copy(checkpoint: Checkpoint, file: PinnedFile, store: Store, folder: str) -> FileEntry:
    key, size = f"{folder}/{file.name}", file.pin.size
    upload = store.start_upload(key, size=size, metadata={})
    parts: list[Part] = []
    try:
        for number, piece in enumerate(read_pieces(checkpoint, file)):
            writer = upload.start_part(
                number + 1, offset=number * PIECE_BYTES, size=len(piece), with_sha256=True
            )
            try:
                writer.append(piece)
                parts.append(writer.finish())
            finally:
                writer.discard()
        upload.complete(parts)
    except BaseException:
        upload.abort()
        raise
    crc = combine_crc64nvme((part.crc64nvme, part.size) for part in parts)
    return describe_file(file.name, size, crc, parts, PIECE_BYTES)
