"""Does a checkpoint bring the tokenizer of its embedding? Told from its files."""

import json
from collections.abc import Iterator, Mapping

from fusion.checkpoints.checkpoint import Checkpoint, model_tensors
from jobs.errors import ModelError

# What models call the matrix with a row for each token.
EMBEDDINGS = (
    "word_embeddings.weight", "embed_tokens.weight", "wte.weight", "shared.weight",
    "tok_embeddings.weight", "embed_in.weight", "word_embedding.weight", "embedding.weight",
)  # fmt: skip
FILES = "tokenizer.json, or vocab.txt, or vocab.json and merges.txt, or a sentencepiece model"
COPY = "copy the tokenizer files of the model that it was trained from beside its config.json"
FIT = (
    "give it the tokenizer that it was trained with, or resize its embedding: "
    "model.resize_token_embeddings(len(tokenizer)), and save both"
)


def check_tokenizer(checkpoint: Checkpoint, vocabulary: Mapping[str, int]) -> None:
    """Refuse what a library would make up, or would find out while it computes.

    Args:
        checkpoint: the candidate, or an adapter with the tokenizer of its base.
        vocabulary: token -> id; {} where it is not known, as of a sentencepiece model.

    Raises:
        ModelError: there are no tokenizer files, or only half of them, or a token whose id has no
            row in the embedding.
    """
    source = checkpoint if checkpoint.adapter is None else checkpoint.adapter.base
    name, files = source.name, {file.name for file in source.side_files}
    if not source.tokenizer_digest:
        raise ModelError(
            f"{name} has no tokenizer files ({FILES} is expected). Nothing was evaluated.", COPY
        )
    if "vocab.json" in files and not files & {"tokenizer.json", "merges.txt"}:
        raise ModelError(
            f"{name} has vocab.json without merges.txt or tokenizer.json: words cannot be cut with "
            "the one alone. Nothing was evaluated.",
            COPY,
        )
    check_ids(checkpoint, _ids(source, vocabulary))


def check_ids(checkpoint: Checkpoint, ids: Mapping[str, int]) -> None:
    """Refuse tokens that the embedding has no row for.

    Args:
        checkpoint: the checkpoint that holds the embedding.
        ids: token, or what an id is for, and the id.

    Raises:
        ModelError: names the number of such tokens and the one with the largest id.
    """
    num_rows = find_num_rows(checkpoint)
    if num_rows is None:
        return
    outside = {token: index for token, index in ids.items() if index >= num_rows}
    if outside:
        token, index = max(outside.items(), key=lambda entry: entry[1])
        raise ModelError(
            f"{checkpoint.name}: the tokenizer does not fit the model: {len(outside):,} of its "
            f"tokens have no row in the embedding of {num_rows:,} rows, such as {token!r:.60} with "
            f"id {index:,}. Nothing was evaluated.",
            FIT,
        )


def find_num_rows(checkpoint: Checkpoint) -> int | None:
    """Rows of the embedding of tokens; None where it cannot be told which tensor that is."""
    for spec in model_tensors(checkpoint):
        if spec.name.endswith(EMBEDDINGS) and len(spec.shape) == 2:
            return spec.shape[0]
    size = checkpoint.config.get("vocab_size")
    return size if isinstance(size, int) else None


def _ids(checkpoint: Checkpoint, vocabulary: Mapping[str, int]) -> dict[str, int]:
    """All ids that a text can be given: of tokens, of what surrounds a text, of padding.

    A special token that the settings name and the vocabulary lacks gets the next free id.
    """
    ids = dict(vocabulary)
    if ids:
        free = 1 + max(ids.values())
        lacking = [token for token in checkpoint.special_tokens if token not in ids]
        ids |= {token: free + number for number, token in enumerate(dict.fromkeys(lacking))}
    settings = checkpoint.cutting.get("post_processor", "null")
    ids |= {f"of {token} around a text": i for token, i in _surrounding(json.loads(settings))}
    padding = checkpoint.config.get("pad_token_id")
    if isinstance(padding, int):
        ids["pad_token_id of config.json"] = padding
    return ids


def _surrounding(processor: object) -> Iterator[tuple[str, int]]:
    """(token, id) of what a post-processor puts around a text."""
    if not isinstance(processor, Mapping):
        return
    for side in ("cls", "sep"):
        match processor.get(side):
            case [str(token), int(index)]:
                yield token, index
    special = processor.get("special_tokens")
    for token, entry in special.items() if isinstance(special, Mapping) else ():
        ids = entry.get("ids") if isinstance(entry, Mapping) else None
        for index in ids if isinstance(ids, list) else ():
            if isinstance(index, int):
                yield str(token), index
    inner = processor.get("processors")
    for part in inner if isinstance(inner, list) else ():
        yield from _surrounding(part)
