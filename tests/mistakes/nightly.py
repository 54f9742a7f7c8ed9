"""The folder that every row of the list begins with: three BERT classifiers, data, a recipe."""

import csv
import json
import os
import random
from functools import cache
from pathlib import Path

import numpy as np
from safetensors.numpy import load_file, save_file

RECIPE = """\
name: nightly
candidates: [./ckpts/*]
select: {keep: 5}
task: {kind: text-classification, data: ./eval.csv, columns: {text: text, label: label}}
weights: {rule: softmax, temperature: 1.0}
merge: {method: linear, dtype: float32}
output: ./out
gate: {smallest_effect: 0.01, alpha: 0.05}
"""
LABELS = ("negative", "positive")
HIDDEN, LAYERS, VOCABULARY, POSITIONS = 32, 2, 200, 64
# When candidates were written: long ago for any `settle`.
WRITTEN = 1_600_000_000
SPECIAL = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")
WORDS = tuple(a + b for a in "bdfgklmnprst" for b in ("ado", "ein", "imu", "ola", "urn", "esk"))
NAMES = ("a", "b", "c")
ROWS = 400
SIDE_FILES = ("tokenizer.json", "tokenizer_config.json", "vocab.txt")


def write_nightly(folder: Path) -> None:
    """Candidates, data and recipe."""
    for seed, name in enumerate(NAMES):
        write_model(folder / "ckpts" / name, seed=seed)
    write_csv(folder / "eval.csv", examples())
    (folder / "recipe.yaml").write_text(RECIPE)


@cache
def examples() -> tuple[tuple[str, str], ...]:
    """400 rows of (text, label), all different: nine words, labelled as most of them are."""
    generator = random.Random(0)
    texts = [generator.choices(WORDS, k=9) for _ in range(ROWS)]
    return tuple((" ".join(text), LABELS[sum(map(tone, text)) > 0]) for text in texts)


def tone(word: str) -> int:
    """1 of a positive word, -1 of a negative one, 0 of any other."""
    return (1 if WORDS.index(word) % 2 else -1) if word in WORDS else 0


def write_csv(path: Path, rows, *, header=("text", "label"), **style) -> None:
    """Rows below a header, as the csv module of Python writes them."""
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, lineterminator="\n", **style)
        writer.writerows([header, *rows] if header else rows)


def write_model(folder: Path, *, seed: int = 0, tensors=None, **config) -> None:
    """One classifier, whole, written long ago.

    Args:
        folder: of the classifier.
        seed: of its tensors.
        tensors: instead of those of the seed.
        config: keys of config.json that are not the usual ones.
    """
    folder.mkdir(parents=True)
    (folder / "config.json").write_text(json.dumps(make_config() | config, indent=2))
    save(folder / "model.safetensors", make_tensors(seed) if tensors is None else tensors)
    write_tokenizer(folder)
    age(folder)


def age(folder: Path, seconds: float = WRITTEN) -> None:
    """Everything below a folder was last written at this time."""
    for path in [folder, *folder.rglob("*")]:
        os.utime(path, (seconds, seconds))


def save(path: Path, tensors) -> None:
    """One safetensors file."""
    save_file(tensors, path, metadata={"format": "pt"})


def load(path: Path):
    """The tensors of one safetensors file, by name."""
    return load_file(path)


def make_config() -> dict[str, object]:
    """config.json of the classifiers."""
    return {
        "architectures": ["BertForSequenceClassification"],
        "model_type": "bert",
        "vocab_size": VOCABULARY,
        "hidden_size": HIDDEN,
        "num_hidden_layers": LAYERS,
        "num_attention_heads": 2,
        "intermediate_size": HIDDEN,
        "max_position_embeddings": POSITIONS,
        "type_vocab_size": 2,
        "pad_token_id": 0,
        "id2label": {"0": "negative", "1": "positive"},
        "label2id": {"negative": 0, "positive": 1},
    }


def make_tensors(
    seed: int, *, hidden: int = HIDDEN, layers: int = LAYERS, vocabulary: int = VOCABULARY
) -> dict[str, np.ndarray]:
    """Tensors of such a classifier: norms of 1, and matrices around 0 but for what tells labels.

    The first number of a word's embedding is its tone; attention, which is even, brings the mean of
    all to the first token, and pooler and head read it there.
    """
    generator = np.random.default_rng(seed)
    linear = {
        **{
            f"bert.encoder.layer.{layer}.{part}": (hidden, hidden)
            for layer in range(layers)
            for part in (
                *(f"attention.self.{name}" for name in ("query", "key", "value")),
                *("attention.output.dense", "intermediate.dense", "output.dense"),
            )
        },
        "bert.pooler.dense": (hidden, hidden),
        "classifier": (2, hidden),
    }
    norms = ["bert.embeddings.LayerNorm"] + [
        f"bert.encoder.layer.{layer}.{part}.LayerNorm"
        for layer in range(layers)
        for part in ("attention.output", "output")
    ]
    shapes = {
        "bert.embeddings.word_embeddings.weight": (vocabulary, hidden),
        "bert.embeddings.position_embeddings.weight": (POSITIONS, hidden),
        "bert.embeddings.token_type_embeddings.weight": (2, hidden),
        **{f"{name}.weight": shape for name, shape in linear.items()},
        **{f"{name}.bias": shape[:1] for name, shape in linear.items()},
        **{f"{name}.bias": (hidden,) for name in norms},
    }
    tensors = {
        name: (0.02 * generator.standard_normal(shape)).astype(np.float32)
        for name, shape in shapes.items()
    }
    for name in ("encoder.layer.0.attention.self.value", "encoder.layer.0.attention.output.dense",
                 "pooler.dense"):  # fmt: skip
        tensors[f"bert.{name}.weight"] += np.eye(hidden, dtype=np.float32)
    tones = np.array([tone(word) for word in make_words(vocabulary)], np.float32)
    tensors["bert.embeddings.word_embeddings.weight"][:, 0] += tones
    tensors["bert.embeddings.word_embeddings.weight"][SPECIAL.index("[CLS]"), 1] += 1
    tensors["classifier.weight"][:, 0] += np.array((-2, 2), np.float32)
    ones = {f"{name}.weight": np.ones(hidden, np.float32) for name in norms}
    return tensors | ones


def make_words(size: int = VOCABULARY) -> list[str]:
    """Tokens of the vocabulary, in the order of their numbers."""
    words = [*SPECIAL, *WORDS]
    return words + [f"unused{number}" for number in range(size - len(words))]


def write_tokenizer(folder: Path, words: list[str] | None = None) -> None:
    """tokenizer.json, tokenizer_config.json and vocab.txt of whole words."""
    words = words or make_words()
    special = [
        {"id": number, "content": token, "special": True, "single_word": False, "lstrip": False,
         "rstrip": False, "normalized": False}
        for number, token in enumerate(words) if token in SPECIAL
    ]  # fmt: skip
    settings = {
        "version": "1.0",
        "truncation": None,
        "padding": None,
        "added_tokens": special,
        "normalizer": {"type": "BertNormalizer", "clean_text": True, "handle_chinese_chars": True,
                       "strip_accents": None, "lowercase": True},
        "pre_tokenizer": {"type": "BertPreTokenizer"},
        "post_processor": {"type": "BertProcessing", "sep": ["[SEP]", 3], "cls": ["[CLS]", 2]},
        "decoder": {"type": "WordPiece", "prefix": "##", "cleanup": True},
        "model": {"type": "WordPiece", "unk_token": "[UNK]", "continuing_subword_prefix": "##",
                  "max_input_chars_per_word": 100,
                  "vocab": {token: number for number, token in enumerate(words)}},
    }  # fmt: skip
    names = ("pad", "unk", "cls", "sep", "mask")
    named = {f"{name}_token": token for name, token in zip(names, SPECIAL, strict=True)}
    config = {"tokenizer_class": "BertTokenizer", "do_lower_case": True, **named}
    (folder / "tokenizer.json").write_text(json.dumps(settings))
    (folder / "tokenizer_config.json").write_text(json.dumps(config))
    (folder / "vocab.txt").write_text("".join(f"{word}\n" for word in words))
