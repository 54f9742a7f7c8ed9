"""Tiny LSTM checkpoints around a good one, so that their average is better than any of them."""

import random
from copy import deepcopy
from pathlib import Path

import pyarrow as pa
import torch
from pyarrow import parquet

from jobs.models.lstm import LSTMClassifier, build_vocabulary, encode, save_lstm

GOOD = ("good", "great", "lovely", "fine", "superb", "nice")
BAD = ("bad", "awful", "poor", "broken", "dull", "worst")
FILLER = (
    "the",
    "phone",
    "film",
    "food",
    "was",
    "is",
    "it",
    "very",
    "and",
    "so",
    "place",
    "battery",
)
LABELS = ("negative", "positive")


def make_sentences(count: int, seed: int = 0) -> tuple[list[str], list[int]]:
    generator = random.Random(seed)
    texts, labels = [], []
    while len(texts) < count:
        label = generator.randrange(2)
        words = [generator.choice(FILLER) for _ in range(generator.randrange(3, 9))]
        words.insert(generator.randrange(len(words)), generator.choice(GOOD if label else BAD))
        text = " ".join(words) + f" {len(texts)}"
        texts.append(text)
        labels.append(label if generator.random() > 0.05 else 1 - label)
    return texts, labels


def write_data(path: Path, count: int = 800, seed: int = 0) -> None:
    texts, labels = make_sentences(count, seed)
    path.parent.mkdir(parents=True, exist_ok=True)
    table = pa.table({"text": texts, "label": labels, "id": [f"e{i}" for i in range(count)]})
    parquet.write_table(table, path)


def train_base(seed: int = 0, *, embedding_size: int = 8) -> tuple[LSTMClassifier, dict[str, int]]:
    texts, labels = make_sentences(400, seed=99)
    vocabulary = build_vocabulary([*GOOD, *BAD, *FILLER], 64)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        network = LSTMClassifier(
            vocab_size=64, embedding_size=embedding_size, hidden_size=8, num_labels=2
        )
        optimizer = torch.optim.Adam(network.parameters(), lr=2e-2)
        rows = [encode(text, vocabulary) for text in texts]
        lengths = torch.tensor([len(row) for row in rows])
        tokens = torch.zeros(len(rows), int(lengths.max()), dtype=torch.int64)
        for index, row in enumerate(rows):
            tokens[index, : len(row)] = torch.tensor(row)
        target = torch.tensor(labels)
        network.eval()
        for _ in range(60):
            loss = torch.nn.functional.cross_entropy(network(tokens, lengths), target)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
    return network, vocabulary


def write_candidates(folder: Path, *, names=("a", "b", "c", "d"), shift: float = 0.25) -> None:
    """Pairs of base + d and base - d: each is worse than their average."""
    base, vocabulary = train_base()
    generator = torch.Generator().manual_seed(1)
    for first, second in zip(names[::2], names[1::2], strict=True):
        deltas = [torch.randn(p.shape, generator=generator) * shift for p in base.parameters()]
        for name, sign in ((first, 1.0), (second, -1.0)):
            network = deepcopy(base)
            with torch.no_grad():
                for parameter, delta in zip(network.parameters(), deltas, strict=True):
                    parameter.add_(sign * delta)
            save_lstm(folder / name, network, vocabulary, LABELS)


RECIPE = """\
name: nightly
candidates: [candidates/*]
task:
  kind: text-classification
  data: data/eval.parquet
  columns: {text: text, label: label, id: id}
output: merged
"""


def write_project(folder: Path, recipe: str = RECIPE) -> Path:
    """Candidates, data and recipe; returns the recipe's path."""
    write_candidates(folder / "candidates")
    write_data(folder / "data" / "eval.parquet")
    (folder / "recipe.yaml").write_text(recipe)
    return folder / "recipe.yaml"
