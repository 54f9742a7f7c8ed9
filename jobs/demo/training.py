"""Trains the demonstration's candidates: small LSTM classifiers on real sentences, in seconds.

Four candidates branch from one short shared warm-up, because networks trained from independent
starts average to chance. Each then trains to the end with its own data order, learning rate and
length, and ends overconfident, as such networks do on two thousand sentences: that is what
averaging mends. The branches' learning rates are high and fall to 0: branches of a low rate end
too close to each other for their average to differ.
"""

import json
import shutil
import struct
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from copy import deepcopy
from dataclasses import dataclass
from importlib import resources
from pathlib import Path

import torch
from safetensors import safe_open

from jobs.console.figures import Figures, Tell
from jobs.models.lstm import LSTMClassifier, build_vocabulary, encode, save_lstm
from jobs.models.words import MAX_LENGTH
from jobs.outputs.parquet_file import read_parquet

LABELS = ("negative", "positive")
VOCABULARY = 10_000
EMBEDDING = 128
HIDDEN = 64
BATCH = 32
POOL = 8 * BATCH
WARM_UP_RATE = 1e-3
WARM_UP_EPOCHS = 1
EXPONENT_BIT = 1 << 30  # the highest exponent bit of a float32


@dataclass(frozen=True, slots=True)
class Branch:
    """How one candidate goes on after the warm-up."""

    name: str
    learning_rate: float
    epochs: int
    order: int


BRANCHES = (
    Branch("lr-0.009-epochs-6", 0.009, 6, 1),
    Branch("lr-0.010-epochs-6", 0.010, 6, 2),
    Branch("lr-0.011-epochs-6", 0.011, 6, 3),
    Branch("lr-0.010-epochs-7", 0.010, 7, 4),
)
BAD = Branch("bad-lr-1", 1.0, 1, 5)
ROTTEN = "bit-rot"


@dataclass(frozen=True, slots=True)
class Corpus:
    """Encoded training sentences."""

    tokens: Sequence[Sequence[int]]
    labels: torch.Tensor
    vocabulary: dict[str, int]


def train_candidates(folder: Path, *, seed: int, tell: Tell) -> None:
    """Write six candidate checkpoints into `folder`: four good, one bad, one damaged.

    Args:
        folder: folder for the checkpoints; made if needed.
        seed: random seed of initial weights, data orders and dropout.
        tell: called with (epochs done, epochs, figures).
    """
    corpus = load_corpus()
    total = WARM_UP_EPOCHS + sum(branch.epochs for branch in (*BRANCHES, BAD))
    done = 0

    def step(what: str) -> None:
        nonlocal done
        done += 1
        tell(done, total, Figures(unit=what))

    with torch.random.fork_rng(devices=[]), _one_thread():
        torch.manual_seed(seed)
        start = LSTMClassifier(
            vocab_size=VOCABULARY,
            embedding_size=EMBEDDING,
            hidden_size=HIDDEN,
            num_labels=len(LABELS),
        )
        warm_up = Branch("warm-up", WARM_UP_RATE, WARM_UP_EPOCHS, 0)
        train(start, corpus, warm_up, seed=seed, on_epoch=lambda: step("warm-up"))
        for branch in (*BRANCHES, BAD):
            network = deepcopy(start)
            train(network, corpus, branch, seed=seed, on_epoch=lambda name=branch.name: step(name))  # type: ignore[misc]  # default binds the name
            save_lstm(folder / branch.name, network, corpus.vocabulary, LABELS)
    shutil.copytree(folder / BRANCHES[0].name, folder / ROTTEN)
    flip_bit(folder / ROTTEN / "model.safetensors", "dense.weight", 0, EXPONENT_BIT)


@contextmanager
def _one_thread() -> Iterator[None]:
    """Matrices this small are slower on two threads than on one."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def load_corpus() -> Corpus:
    """The training sentences that ship with the package."""
    with resources.as_file(resources.files("jobs.demo") / "demo_data" / "train.parquet") as path:
        table = read_parquet(path)
    texts = table.column("text").to_pylist()
    vocabulary = build_vocabulary(texts, VOCABULARY)
    tokens = [encode(text, vocabulary)[:MAX_LENGTH] for text in texts]
    return Corpus(tokens, torch.tensor(table.column("label").to_pylist()), vocabulary)


def train(
    network: LSTMClassifier,
    corpus: Corpus,
    branch: Branch,
    *,
    seed: int,
    on_epoch: Callable[[], None],
) -> None:
    """Train in place: Adam, cross entropy, batches of 32 in an order of the branch's own."""
    order = torch.Generator().manual_seed(1000 * seed + branch.order)
    torch.manual_seed(1000 * seed + branch.order)
    optimizer = torch.optim.Adam(network.parameters(), lr=branch.learning_rate)
    network.train()
    steps = branch.epochs * -(-len(corpus.tokens) // BATCH)
    # The rate falls to 0 in a straight line: branches end settled, so their quality is alike.
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: 1 - step / steps)
    for _ in range(branch.epochs):
        for rows in make_batches(corpus, order):
            lengths = torch.tensor([max(1, len(corpus.tokens[row])) for row in rows])
            padded = torch.zeros(len(rows), int(lengths.max()), dtype=torch.int64)
            for index, row in enumerate(rows):
                padded[index, : len(corpus.tokens[row])] = torch.tensor(corpus.tokens[row])
            loss = torch.nn.functional.cross_entropy(network(padded, lengths), corpus.labels[rows])
            optimizer.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]  # torch's own
            torch.nn.utils.clip_grad_norm_(network.parameters(), 1.0)
            optimizer.step()
            schedule.step()
        on_epoch()


def make_batches(corpus: Corpus, order: torch.Generator) -> list[list[int]]:
    """Rows of one epoch in random batches of sentences of like length, which saves padding."""
    shuffled = torch.randperm(len(corpus.tokens), generator=order).tolist()
    batches = []
    for first in range(0, len(shuffled), POOL):
        pool = sorted(shuffled[first : first + POOL], key=lambda row: len(corpus.tokens[row]))
        batches += [pool[start : start + BATCH] for start in range(0, len(pool), BATCH)]
    return [batches[i] for i in torch.randperm(len(batches), generator=order).tolist()]


def flip_bit(path: Path, tensor: str, element: int, bit: int) -> None:
    """Flip one bit of one float32 in a safetensors file, as a bad memory cell would."""
    with safe_open(path, framework="pt") as tensors:
        value = tensors.get_tensor(tensor).flatten()[element]
    content = bytearray(path.read_bytes())
    length = struct.unpack("<Q", content[:8])[0]
    begin = json.loads(content[8 : 8 + length])[tensor]["data_offsets"][0]
    place = 8 + length + begin + 4 * element
    (number,) = struct.unpack_from("<I", content, place)
    assert struct.unpack_from("<f", content, place)[0] == float(value)
    struct.pack_into("<I", content, place, number ^ bit)
    path.write_bytes(content)
