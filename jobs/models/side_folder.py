"""Configs and tokenizers in a private folder, while a model is loaded."""

import contextlib
import json
import tempfile
from collections.abc import Iterator
from pathlib import Path

from fusion.checkpoints.checkpoint import Checkpoint
from jobs.candidates.side_files import CONFIG
from jobs.merge.model_files import read_side_files


@contextlib.contextmanager
def side_files(checkpoint: Checkpoint) -> Iterator[Path]:
    """A private folder with the pinned side files, while the block runs; no tensor is copied.

    Those of an adapter are its base's; config.json says its own head where it brings one.

    Raises:
        SourceChangedError: a file is no longer the pinned one.
    """
    source = checkpoint if checkpoint.adapter is None else checkpoint.adapter.base
    own = checkpoint.adapter.config if checkpoint.adapter is not None else None
    with tempfile.TemporaryDirectory(prefix="metafuse-") as folder:
        for name, content in read_side_files(source).items():
            place = Path(folder) / name
            place.parent.mkdir(parents=True, exist_ok=True)
            with place.open("xb") as stream:
                stream.write(content)
        if own is not None:
            (Path(folder) / CONFIG).write_text(json.dumps(own))
        yield Path(folder)
