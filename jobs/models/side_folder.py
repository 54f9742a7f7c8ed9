"""Configs and tokenizers in a private folder, while a model is loaded."""

import contextlib
import tempfile
from collections.abc import Iterator
from pathlib import Path

from fusion.checkpoints.checkpoint import Checkpoint
from jobs.merge.model_files import read_side_files


@contextlib.contextmanager
def side_files(checkpoint: Checkpoint) -> Iterator[Path]:
    """A private folder with the pinned side files, while the block runs; no tensor is copied.

    Those of an adapter are its base's.

    Raises:
        SourceChangedError: a file is no longer the pinned one.
    """
    source = checkpoint if checkpoint.adapter is None else checkpoint.adapter.base
    with tempfile.TemporaryDirectory(prefix="metafuse-") as folder:
        for name, content in read_side_files(source).items():
            place = Path(folder) / name
            place.parent.mkdir(parents=True, exist_ok=True)
            with place.open("xb") as stream:
                stream.write(content)
        yield Path(folder)
