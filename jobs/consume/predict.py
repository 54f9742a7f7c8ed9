"""The flow: text in; is it a generation task? yes: text out; no: class or number out."""

import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Any

import numpy as np

from cluster.stores.open_store import open_store
from cluster.stores.store import Store
from fusion.canonical import from_json
from fusion.checkpoints.checkpoint import Checkpoint
from fusion.checkpoints.heads import find_head
from fusion.errors import ManifestError, MismatchError
from fusion.manifests.model import ModelManifest
from fusion.scores.contract import Head
from fusion.scores.multi_label import THRESHOLD
from jobs.consume.resolve import check_bytes, resolve
from jobs.errors import UsageError
from jobs.models.batches import batches, find_outputs
from jobs.models.contract import Model
from jobs.models.families import find_loader, load_model
from jobs.outputs.keys import MODEL_MANIFEST, POINTER_KEY
from jobs.outputs.verify import check_model

BATCH = 32
# So many texts are known before the first is answered: rows of like length go together.
PART = 1024
NEW_TOKENS = 40
LISTED = 10
RUN = re.compile(r"runs/[^/]+/plan\.json")
GENERIC = re.compile(r"LABEL_[0-9]+")


@dataclass(frozen=True, slots=True)
class Answer:
    """What a model says about one text.

    Attributes:
        text: text that the model was asked about; "" for a blank line.
        kind: kind of the answer: "class", "labels", "number" or "text"; "none" for a blank line.
        answer: the label, several with ", " between them or "none", the number, or the generated
            text; None for a blank line.
        probability: probability of the label; None where the answer is no label.
        probabilities: probability of each label; empty where the answer is no label.
    """

    text: str
    kind: str
    answer: str | None
    probability: float | None
    probabilities: dict[str, float]


BLANK = Answer("", "none", None, None, {})


def find_asked(model: str) -> tuple[str, bool]:
    """The URI of the model that is meant, and whether it is the promoted one of an output.

    A model that we wrote is read whole and compared with its digests first.

    Args:
        model: path or URI of a checkpoint, or of an output.

    Raises:
        NoCandidatesError: nothing was promoted to the output yet.
        ManifestError: a model that is not what was written.
    """
    store = open_store(model)
    if _has(store, POINTER_KEY) or any(RUN.fullmatch(e.key) for e in store.list("runs/")):
        return resolve(model, with_bytes=True).uri, True
    if _has(store, MODEL_MANIFEST):
        try:
            from_json(ModelManifest, store.read(MODEL_MANIFEST))
        except ManifestError:
            return model, False  # another program's file
        check_bytes(store, check_model(store, ""))
    return model, False


def _has(store: Store, key: str) -> bool:
    try:
        store.head(key)
    except FileNotFoundError:
        return False
    return True


def predict(
    checkpoints: Sequence[Checkpoint], weights: Sequence[float], texts: Sequence[str]
) -> list[Answer]:
    """Answers to all texts at once; see `answer_each`."""
    return list(answer_each(checkpoints, weights, texts))


def answer_each(
    checkpoints: Sequence[Checkpoint], weights: Sequence[float], texts: Iterable[str | None]
) -> Iterator[Answer]:
    """Answers of one model, or of an ensemble by the linear pool of its outputs, in order.

    Labels are aligned by name. One model answers as the texts come, some at a time; several are
    loaded one after the other, when all texts are known.

    Args:
        checkpoints: one model, or several with the same labels in any order, or several models that
            answer with a number.
        weights: one weight for each checkpoint, of sum 1.
        texts: texts to ask about, at least one; None is answered by nothing.

    Raises:
        MismatchError: the models have other labels, or labels without names.
        UsageError: there are several models, one of which writes text.
        ModelError: a model cannot be loaded, see `load_model`.
    """
    asked = _find_asked(checkpoints)
    if len(checkpoints) == 1:
        model = load_model(checkpoints[0], asked.head).model
        rows = iter(texts)
        while part := list(islice(rows, PART)):
            known = [text for text in part if text is not None]
            found = iter(asked.words(known, asked.outputs(model, known)) if known else ())
            yield from (BLANK if text is None else next(found) for text in part)
        return
    part = list(texts)
    known = [text for text in part if text is not None]
    pooled = np.zeros((len(known), max(1, len(asked.labels))))
    for weight, checkpoint in zip(weights, checkpoints, strict=True):
        model = load_model(checkpoint, asked.head).model
        pooled += weight * asked.outputs(model, known)
    found = iter(asked.words(known, pooled))
    yield from (BLANK if text is None else next(found) for text in part)


@dataclass(frozen=True, slots=True)
class _Asked:
    """How models of one head are asked; `labels` are those of the first, () without classes."""

    head: Head
    labels: tuple[str, ...]

    def outputs(self, model: Model, texts: Sequence[str]) -> Any:
        """Probabilities [n, c] in the order of `labels`, numbers [n, 1], or n texts."""
        if self.head == "tokens":
            return _write(model, texts)
        if self.head == "value":
            # For a model of two texts the two are given as `first TAB second`.
            pairs = [text.split("\t", 1) for text in texts]
            inputs = [dict(zip(("text", "text_pair"), pair, strict=False)) for pair in pairs]
            return find_outputs(model, inputs, batch_size=BATCH).double().numpy()
        logits = find_outputs(model, [{"text": text} for text in texts], batch_size=BATCH).double()
        found = (logits.sigmoid() if self.head == "labels" else logits.softmax(dim=-1)).numpy()
        return found[:, [model.labels.index(label) for label in self.labels]]

    def words(self, texts: Sequence[str], outputs: Any) -> Iterator[Answer]:
        """An answer a text."""
        return map(self._answer, texts, outputs)

    def _answer(self, text: str, row: Any) -> Answer:
        if self.head == "tokens":
            return Answer(text, "text", row, None, {})
        if self.head == "value":
            return Answer(text, "number", f"{row[0]:.4f}", None, {})
        table = {label: float(p) for label, p in zip(self.labels, row, strict=True)}
        if self.head == "labels":
            said = [label for label, p in table.items() if p >= THRESHOLD]
            return Answer(text, "labels", ", ".join(said) or "none", None, table)
        best = int(row.argmax())
        return Answer(text, "class", self.labels[best], float(row[best]), table)


def _find_asked(checkpoints: Sequence[Checkpoint]) -> _Asked:
    writers = [c for c in checkpoints if find_head(c.config) == "tokens"]
    if writers and len(checkpoints) > 1:
        raise UsageError(
            f"{writers[0].name} writes text, and texts cannot be pooled; nothing was asked",
            "ask it alone",
        )
    if writers:
        return _Asked("tokens", ())
    head = find_head(checkpoints[0].config)
    if head == "value":
        return _Asked("value", ())
    kind: Head = "labels" if head == "labels" else "classes"
    return _Asked(kind, check_labels(checkpoints, kind))


def _write(model: Model, texts: Sequence[str]) -> list[str]:
    """The greedy continuation of each text, at most 40 tokens."""
    written = []
    for text in texts:
        encoded = model.encode([{"text": text}], max_length=None)
        for _, batch in batches(encoded, 1):
            written += model.generate(batch, max_new_tokens=NEW_TOKENS)
    return written


def check_labels(checkpoints: Sequence[Checkpoint], head: Head = "classes") -> tuple[str, ...]:
    """The labels of all models, in the order of the first.

    Raises:
        MismatchError: label sets differ, a name stands twice, or the names are LABEL_0, LABEL_1 and
            so on, which say nothing about what a model was trained on.
    """
    first, *others = checkpoints
    labels = find_loader(first, head)[1]
    for other in others:
        found = find_loader(other, head)[1]
        if sorted(found) != sorted(labels) or len(set(labels)) < len(labels):
            raise MismatchError(
                f"{other.name} has the labels {list(found)[:LISTED]}, {first.name} has "
                f"{list(labels)[:LISTED]}; their answers cannot be pooled. Nothing was asked.",
                "ask them one by one, or give both the same names in id2label of config.json",
                "E-CONFIG",
            )
    if others and all(GENERIC.fullmatch(label) for label in labels):
        raise MismatchError(
            f"the {len(checkpoints)} models call their labels {list(labels)[:LISTED]}: whether "
            "they mean the same in all of them cannot be told. Nothing was asked.",
            "name the labels in id2label of each config.json",
            "E-CONFIG",
        )
    return labels
