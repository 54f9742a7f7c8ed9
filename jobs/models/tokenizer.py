"""The tokenizer of a checkpoint through transformers, which makes up what it does not find."""

from pathlib import Path
from typing import Any

import transformers

from cluster.stores.open_store import open_store
from fusion.checkpoints.checkpoint import Checkpoint, Pin, PinnedFile
from jobs.candidates.side_files import read_tokenizer
from jobs.candidates.tokenizers import COPY, check_ids, check_tokenizer
from jobs.errors import ModelError


def load_tokenizer(folder: Path, checkpoint: Checkpoint) -> Any:
    """The tokenizer of the side files in a folder; no code of its own is run.

    Raises:
        ModelError: there is none, it cannot be loaded, it is another one than its files say, or
            the embedding has no row for one of its tokens.
    """
    store = open_store(str(folder))
    names = [file.name for file in _source(checkpoint).side_files]
    found = [(name, store.head(name)) for name in names]
    sides = [PinnedFile(name, Pin(entry.size, entry.etag)) for name, entry in found]
    vocabulary = read_tokenizer(store, sides, name=checkpoint.name).vocabulary
    check_tokenizer(checkpoint, vocabulary)
    try:
        tokenizer = transformers.AutoTokenizer.from_pretrained(
            folder, local_files_only=True, trust_remote_code=False
        )
    except Exception as error:  # noqa: BLE001  # what is in the files decides which one it is
        first = next(iter(str(error).splitlines()), type(error).__name__)
        raise ModelError(f"no tokenizer that can be loaded: {first}", COPY) from None
    known = tokenizer.get_vocab()
    odd = [token for token, index in vocabulary.items() if known.get(token) != index]
    if odd:
        raise ModelError(
            f"{checkpoint.name}: transformers reads another tokenizer than its files hold: "
            f"{len(odd):,} of {len(vocabulary):,} tokens have another id or none, such as "
            f"{odd[0]!r:.60}. Nothing was evaluated.",
            "save it again: tokenizer.save_pretrained(folder)",
        )
    check_ids(checkpoint, known)
    return tokenizer


def _source(checkpoint: Checkpoint) -> Checkpoint:
    return checkpoint if checkpoint.adapter is None else checkpoint.adapter.base
