"""The LSTM text classifier: Embedding(10000, 128) -> LSTM(64) -> LSTM(64) -> dense softmax.

A checkpoint is config.json (model_type "lstm-classifier"), model.safetensors and vocab.txt with a
token a line, [PAD] and [UNK] first. Words are lower-cased runs of letters and digits (apostrophes
inside words stay) and single punctuation marks.
"""

import json
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch import nn
from torch.overrides import TorchFunctionMode

from fusion.checkpoints.checkpoint import Checkpoint, model_tensors
from fusion.dtypes import FLOATS
from fusion.scores.contract import Head
from jobs.errors import ModelError
from jobs.models.contract import Encoded
from jobs.models.unfilled import CPU, Unfilled
from jobs.models.words import MAX_LENGTH, tokenize

MODEL_TYPE = "lstm-classifier"
PADDING, UNKNOWN = "[PAD]", "[UNK]"
LARGEST_SIZE = 1 << 24  # of vocabulary, embedding or hidden state


class LSTMClassifier(nn.Module):
    """Two stacked LSTMs over word embeddings; the last real position is classified."""

    def __init__(
        self, *, vocab_size: int, embedding_size: int, hidden_size: int, num_labels: int
    ) -> None:
        super().__init__()
        self.embedding = nn.Embedding(vocab_size, embedding_size, padding_idx=0)
        self.first = nn.LSTM(embedding_size, hidden_size, batch_first=True)
        self.second = nn.LSTM(hidden_size, hidden_size, batch_first=True)
        self.dropout = nn.Dropout(0.2)
        self.dense = nn.Linear(hidden_size, num_labels)

    def forward(self, tokens: torch.Tensor, lengths: torch.Tensor) -> torch.Tensor:
        """Logits [b, c] for padded tokens [b, t] with true lengths [b]."""
        # Padding comes after the last word, so it cannot change what is read there.
        hidden, _ = self.first(self.dropout(self.embedding(tokens)))
        hidden, _ = self.second(self.dropout(hidden))
        last = hidden[torch.arange(len(lengths)), lengths - 1]
        logits: torch.Tensor = self.dense(last)
        return logits


class LoadedLSTM:
    """An LSTM checkpoint that predicts."""

    def __init__(
        self, network: LSTMClassifier, vocabulary: Mapping[str, int], labels: tuple[str, ...]
    ) -> None:
        self.head: Head = "classes"
        self.labels = labels
        self._network = network.eval()
        self._vocabulary = vocabulary

    def encode(
        self,
        inputs: Sequence[Mapping[str, object]],
        /,
        *,
        max_length: int | None,
        stride: int | None = None,
    ) -> Encoded:
        """As the protocol says; without `max_length` 64 words are read. It makes no windows."""
        if stride is not None or any("text_pair" in entry for entry in inputs):
            raise ModelError("an LSTM classifier reads one text, in one piece")
        limit = max_length or MAX_LENGTH
        words = [encode(str(entry["text"]), self._vocabulary) for entry in inputs]
        rows = [
            {
                "input_ids": torch.tensor(tokens[:limit] or [0], dtype=torch.int64),
                "attention_mask": torch.ones(max(1, len(tokens[:limit])), dtype=torch.bool),
            }
            for tokens in words
        ]
        return Encoded(rows, range(len(rows)), sum(len(tokens) > limit for tokens in words))

    def forward(self, batch: Mapping[str, torch.Tensor], /) -> Mapping[str, torch.Tensor]:
        """The logits [b, c]."""
        return {"logits": self._network(batch["input_ids"], batch["attention_mask"].sum(dim=1))}

    def generate(self, batch: Mapping[str, torch.Tensor], /, *, max_new_tokens: int) -> list[str]:
        """It cannot."""
        raise ModelError("an LSTM classifier writes no text")


def encode(text: str, vocabulary: Mapping[str, int]) -> list[int]:
    """Token ids; words outside of the vocabulary become [UNK]."""
    unknown = vocabulary[UNKNOWN]
    return [vocabulary.get(word, unknown) for word in tokenize(text)]


def build_vocabulary(texts: Iterable[str], size: int) -> dict[str, int]:
    """[PAD], [UNK], then words by falling frequency; equally frequent ones by alphabet."""
    counts = Counter(word for text in texts for word in tokenize(text))
    ranked = sorted(counts, key=lambda word: (-counts[word], word))[: size - 2]
    return {word: index for index, word in enumerate([PADDING, UNKNOWN, *ranked])}


def save_lstm(
    folder: Path, network: LSTMClassifier, vocabulary: Mapping[str, int], labels: Sequence[str]
) -> None:
    """Write a checkpoint folder."""
    folder.mkdir(parents=True, exist_ok=True)
    config = {
        "architectures": ["LSTMClassifier"],
        "embedding_size": network.embedding.embedding_dim,
        "hidden_size": network.second.hidden_size,
        "id2label": {str(index): label for index, label in enumerate(labels)},
        "model_type": MODEL_TYPE,
        "vocab_size": network.embedding.num_embeddings,
    }
    (folder / "vocab.txt").write_text("".join(f"{word}\n" for word in vocabulary), "utf-8")
    (folder / "config.json").write_text(json.dumps(config, indent=2, sort_keys=True) + "\n")
    tensors = {name: tensor.detach().contiguous() for name, tensor in network.state_dict().items()}
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})


class _Unset(TorchFunctionMode):
    """Leaves parameters without first values, which on the meta device import a compiler."""

    def __torch_function__(
        self, function: Any, types: Any, args: Any = (), kwargs: Any = None
    ) -> Any:
        if getattr(function, "__module__", "") == nn.init.__name__:
            return args[0] if args else kwargs["tensor"]
        return function(*args, **(kwargs or {}))


def load_lstm(folder: Path, checkpoint: Checkpoint, labels: tuple[str, ...]) -> Unfilled:
    """The model whose side files are in a folder. It computes on the CPU.

    Raises:
        ModelError: sizes, tensors or words that do not fit together.
    """
    sizes = _read_sizes(checkpoint.config)
    # Without memory: config.json may claim sizes that no machine could hold.
    with torch.device("meta"), _Unset():
        network = LSTMClassifier(**sizes, num_labels=len(labels))
    expected = network.state_dict()
    specs = {spec.name: spec for spec in model_tensors(checkpoint)}
    odd = sorted(
        name
        for name in expected.keys() | specs.keys()
        if name not in expected
        or name not in specs
        or expected[name].shape != specs[name].shape
        or specs[name].dtype not in FLOATS
    )
    if odd:
        raise ModelError(f"tensors that do not fit the network of config.json: {', '.join(odd)}")
    vocabulary = _read_words(folder / "vocab.txt", limit=sizes["vocab_size"])

    def fill(tensors: Mapping[str, torch.Tensor]) -> LoadedLSTM:
        network.load_state_dict(tensors, assign=True)
        return LoadedLSTM(network, vocabulary, labels)

    return Unfilled(CPU, fill)


def _read_sizes(config: Mapping[str, object]) -> dict[str, int]:
    sizes: dict[str, int] = {}
    wrong = []
    for key in ("vocab_size", "embedding_size", "hidden_size"):
        value = config.get(key)
        if isinstance(value, int) and 0 < value <= LARGEST_SIZE:
            sizes[key] = value
        else:
            wrong.append(key)
    if wrong:
        raise ModelError(
            f"config.json: {', '.join(wrong)} must be whole numbers from 1 to {LARGEST_SIZE}"
        )
    return sizes


def _read_words(path: Path, *, limit: int) -> dict[str, int]:
    try:
        words = path.read_text("utf-8").splitlines()
    except FileNotFoundError:
        raise ModelError("vocab.txt is missing: words cannot be numbered without it") from None
    except UnicodeDecodeError as error:
        raise ModelError(f"vocab.txt is not UTF-8 at byte {error.start}") from None
    if words[:2] != [PADDING, UNKNOWN] or len(words) > limit:
        raise ModelError(
            f"vocab.txt: [PAD] and [UNK] first and at most {limit} lines expected, "
            f"found {words[:2]} and {len(words)} lines"
        )
    vocabulary = {word: index for index, word in enumerate(words)}
    if len(vocabulary) < len(words):
        repeated = Counter(words).most_common(1)[0][0]
        raise ModelError(f"vocab.txt: {repeated!r} stands on more than one line")
    return vocabulary
