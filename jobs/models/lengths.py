"""How many tokens texts have and how many a model reads: by config and tokenizer file alone."""

import heapq
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from cluster.errors import NotFoundError, PreconditionError
from cluster.stores.open_store import open_store
from fusion.checkpoints.checkpoint import Checkpoint
from jobs.models.words import MAX_LENGTH, tokenize

TOKENIZER = "tokenizer.json"
# What config.json leaves out is as the library has it.
DEFAULT_POSITIONS = {"bert": 512, "roberta": 512, "gpt2": 1024}
# English text under the usual vocabularies of 30,000 to 50,000 tokens.
CHARACTERS_A_TOKEN = 4
# Those with the most characters, among which the one with the most tokens is looked for.
LONGEST_TEXTS = 32
# Some two seconds of one core.
MOST_CHARACTERS = 8_000_000
LARGEST_TOKENIZER = 64 << 20


@dataclass(frozen=True, slots=True)
class Lengths:
    """Numbers of tokens.

    Attributes:
        counts: number of tokens of each input that was counted, special tokens included, sorted.
        step: every so manieth input was counted; 1 for all.
        is_estimate: whether characters were counted in place of tokens.
    """

    counts: tuple[int, ...]
    step: int
    is_estimate: bool


def count_lengths(checkpoint: Checkpoint, inputs: Sequence[Mapping[str, object]]) -> Lengths:
    """Count the tokens of inputs, of very many texts only of a part.

    A model without `tokenizer.json` has a tokenizer that only transformers can run: its tokens are
    estimated, one for four characters.

    Args:
        checkpoint: model that would read them.
        inputs: texts by role: "text", and "text_pair" where there are two.
    """
    texts = [_texts(entry) for entry in inputs]
    total = sum(len(text) for pair in texts for text in pair)
    step = max(1, -(-total // MOST_CHARACTERS))
    chosen = texts[::step]
    if checkpoint.config.get("model_type") == "lstm-classifier":
        counts = [sum(len(tokenize(text)) for text in pair) for pair in chosen]
        return Lengths(tuple(sorted(counts)), step, is_estimate=False)
    tokenizer = _load_tokenizer(checkpoint)
    if tokenizer is None:
        counts = [estimate_tokens(sum(map(len, pair))) for pair in chosen]
        return Lengths(tuple(sorted(counts)), step, is_estimate=True)
    whole = [pair[0] if len(pair) == 1 else pair for pair in chosen]
    counts = [len(found.ids) for found in tokenizer.encode_batch_fast(whole)]
    return Lengths(tuple(sorted(counts)), step, is_estimate=False)


def count_longest(
    checkpoint: Checkpoint, inputs: Sequence[Mapping[str, object]], max_length: int | None
) -> int:
    """Number of tokens that a model reads of the longest input; 0 for no inputs.

    It is looked for among the inputs with the most characters.
    """
    if not inputs:
        return 0
    sizes = {index: sum(map(len, _texts(entry))) for index, entry in enumerate(inputs)}
    longest = heapq.nlargest(LONGEST_TEXTS, sizes, key=sizes.__getitem__)
    most = count_lengths(checkpoint, [inputs[index] for index in longest]).counts[-1]
    limit = find_most(checkpoint.config, max_length)
    return most if limit is None else min(most, limit)


def estimate_tokens(num_characters: int) -> int:
    """Tokens of a text, about: one for four characters, and two more."""
    return num_characters // CHARACTERS_A_TOKEN + 2


def find_most(config: Mapping[str, object], max_length: int | None) -> int | None:
    """Tokens that a model reads of an input; None where memory alone is the limit."""
    kind = str(config.get("model_type"))
    if kind == "lstm-classifier":
        return max_length or MAX_LENGTH
    named = config.get("max_position_embeddings", config.get("n_positions"))
    positions = named if isinstance(named, int) else DEFAULT_POSITIONS.get(kind)
    if positions is None:
        return max_length
    if kind == "roberta":  # positions start after the padding id
        padding = config.get("pad_token_id", 1)
        positions -= (padding if isinstance(padding, int) else 1) + 1
    return min(positions, max_length or positions)


def _texts(entry: Mapping[str, object]) -> tuple[str, ...]:
    named = tuple(str(entry[role]) for role in ("text", "text_pair") if role in entry)
    return named or (" ".join(value for value in entry.values() if isinstance(value, str)),)


def _load_tokenizer(checkpoint: Checkpoint) -> Any:
    """The tokenizer of a checkpoint; None where there is none that `tokenizers` can run."""
    source = checkpoint if checkpoint.adapter is None else checkpoint.adapter.base
    pins = {file.name: file.pin for file in source.side_files}
    pin = pins.get(TOKENIZER)
    if pin is None or pin.size > LARGEST_TOKENIZER:
        return None
    from tokenizers import Tokenizer

    try:
        content = open_store(source.uri).read(TOKENIZER, if_match=pin.etag, version=pin.version)
        tokenizer = Tokenizer.from_str(content.decode())
    except (NotFoundError, PreconditionError):
        return None  # told by whoever reads it to evaluate
    except Exception:  # noqa: BLE001  # tokenizers raises nothing more precise
        return None
    tokenizer.no_truncation()
    tokenizer.no_padding()
    return tokenizer
