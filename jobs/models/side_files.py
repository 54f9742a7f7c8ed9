"""Configs and tokenizers in a private folder, while a model is loaded."""

import contextlib
import tempfile
from collections.abc import Iterator
from pathlib import Path

from cluster.errors import NotFoundError, PreconditionError
from cluster.stores.open_store import open_store
from fusion.checkpoints.checkpoint import Checkpoint
from jobs.models.tensor_reads import no_longer_pinned


@contextlib.contextmanager
def side_files(checkpoint: Checkpoint) -> Iterator[Path]:
    """A private folder with the pinned side files, while the block runs; no tensor is copied.

    Those of an adapter are its base's.

    Raises:
        SourceChangedError: a file is no longer the pinned one.
    """
    source = checkpoint if checkpoint.adapter is None else checkpoint.adapter.base
    store = open_store(source.uri)
    with tempfile.TemporaryDirectory(prefix="metafuse-") as folder:
        for file in source.side_files:
            target = Path(folder) / file.name
            try:
                content = store.read(file.name, if_match=file.pin.etag, version=file.pin.version)
            except (PreconditionError, NotFoundError):
                raise no_longer_pinned(source.uri, file) from None
            with target.open("xb") as stream:
                stream.write(content)
        yield Path(folder)
