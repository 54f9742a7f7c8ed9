"""Configs and tokenizers in a private folder, while a model is loaded."""

import contextlib
import json
import tempfile
from collections.abc import Iterator
from pathlib import Path

from fusion.checkpoints.checkpoint import Checkpoint
from jobs.candidates.side_files import CONFIG
from jobs.merge.large_files import is_large, read_pieces
from jobs.merge.model_files import read_side_file


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
        for file in source.side_files:
            place = Path(folder) / file.name
            place.parent.mkdir(parents=True, exist_ok=True)
            with place.open("xb") as stream:
                if is_large(file):
                    stream.writelines(read_pieces(source, file))
                else:
                    stream.write(read_side_file(source, file))
        if own is not None:
            (Path(folder) / CONFIG).write_text(json.dumps(own))
        yield Path(folder)
