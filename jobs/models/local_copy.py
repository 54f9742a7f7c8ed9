"""Pinned files in a private folder, while they are loaded."""

import contextlib
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path

from cluster.errors import NotFoundError, PreconditionError
from cluster.stores.open_store import open_store
from cluster.stores.store import Store
from fusion.checkpoints.checkpoint import Checkpoint, PinnedFile
from jobs.errors import SourceChangedError

COPY_BYTES = 8 << 20


@contextlib.contextmanager
def local_copy(checkpoint: Checkpoint) -> Iterator[Path]:
    """A private folder with the pinned files, while the block runs.

    Of an adapter it holds the base with what the adapter adds, and the base's side files.
    """
    with tempfile.TemporaryDirectory(prefix="metafuse-") as folder:
        if checkpoint.adapter is None:
            _copy_all(checkpoint, (*checkpoint.shards, *checkpoint.side_files), Path(folder))
            yield Path(folder)
        else:
            from jobs.models.dense import write_dense

            dense = write_dense(checkpoint, Path(folder))
            base = checkpoint.adapter.base
            _copy_all(base, base.side_files, dense)
            yield dense


def _copy_all(checkpoint: Checkpoint, files: Sequence[PinnedFile], folder: Path) -> None:
    store = open_store(checkpoint.uri)
    for file in files:
        try:
            _copy(store, file, folder / file.name)
        except (PreconditionError, NotFoundError):
            raise SourceChangedError(
                f"{checkpoint.uri}/{file.name} is no longer what was pinned "
                f"({file.pin.etag}). Nothing was published.",
                "run the same command again: it plans anew with what is there now",
            ) from None


def _copy(store: Store, file: PinnedFile, target: Path) -> None:
    buffer = memoryview(bytearray(min(COPY_BYTES, max(1, file.pin.size))))
    with target.open("xb") as stream:
        for start in range(0, file.pin.size, COPY_BYTES):
            part = buffer[: min(COPY_BYTES, file.pin.size - start)]
            store.read_into(
                file.name, part, start=start, if_match=file.pin.etag, version=file.pin.version
            )
            stream.write(part)
