"""The flow: text in; is it a generation task? yes: text out; no: class or number out."""

import re
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from cluster.stores.open_store import open_store
from cluster.stores.store import Store
from fusion.canonical import from_json
from fusion.checkpoints.checkpoint import Checkpoint
from fusion.checkpoints.heads import find_head
from fusion.errors import ManifestError, MismatchError
from fusion.manifests.model import ModelManifest
from jobs.consume.resolve import check_bytes, resolve
from jobs.errors import UsageError
from jobs.models.batches import batches, find_outputs
from jobs.models.families import find_loader, load_model
from jobs.outputs.keys import MODEL_MANIFEST, POINTER_KEY
from jobs.outputs.verify import check_model

BATCH = 32
NEW_TOKENS = 40
LISTED = 10
RUN = re.compile(r"runs/[^/]+/plan\.json")
GENERIC = re.compile(r"LABEL_[0-9]+")


@dataclass(frozen=True, slots=True)
class Answer:
    """What a model says about one text.

    Attributes:
        text: text that the model was asked about.
        kind: kind of the answer: "class", "number" or "text".
        answer: the label, the number, or the generated text.
        probability: probability of the label; None where the answer is no label.
        probabilities: probability of each label; empty where the answer is no label.
    """

    text: str
    kind: str
    answer: str
    probability: float | None
    probabilities: dict[str, float]


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
    """Answers of one model, or of an ensemble by the linear pool of its outputs.

    Labels are aligned by name. Models are loaded one after the other.

    Args:
        checkpoints: one model, or several classifiers with the same labels in any order, or several
            models that answer with a number.
        weights: one weight for each checkpoint, of sum 1.
        texts: texts to ask about, at least one.

    Raises:
        MismatchError: the models have other labels, or labels without names.
        UsageError: there are several models, one of which writes text.
        ModelError: a model cannot be loaded, see `load_model`.
    """
    writers = [c for c in checkpoints if find_head(c.config) == "tokens"]
    if writers and len(checkpoints) > 1:
        raise UsageError(
            f"{writers[0].name} writes text, and texts cannot be pooled; nothing was asked",
            "ask it alone",
        )
    if writers:
        return _write(checkpoints[0], texts)
    if find_head(checkpoints[0].config) == "value":
        return _say_numbers(checkpoints, weights, texts)
    labels = check_labels(checkpoints)
    pooled = np.zeros((len(texts), len(labels)))
    for weight, checkpoint in zip(weights, checkpoints, strict=True):
        model = load_model(checkpoint).model
        logits = find_outputs(model, [{"text": text} for text in texts], batch_size=BATCH)
        found = logits.double().softmax(dim=-1).numpy()
        pooled += weight * found[:, [model.labels.index(label) for label in labels]]
    answers = []
    for text, row in zip(texts, pooled, strict=True):
        best = int(row.argmax())
        table = {label: float(p) for label, p in zip(labels, row, strict=True)}
        answers.append(Answer(text, "class", labels[best], float(row[best]), table))
    return answers


def _write(checkpoint: Checkpoint, texts: Sequence[str]) -> list[Answer]:
    """The greedy continuation of each text, at most 40 tokens."""
    model = load_model(checkpoint, "tokens").model
    written = []
    for text in texts:
        encoded = model.encode([{"text": text}], max_length=None)
        for _, batch in batches(encoded, 1):
            written += model.generate(batch, max_new_tokens=NEW_TOKENS)
    return [Answer(t, "text", out, None, {}) for t, out in zip(texts, written, strict=True)]


def _say_numbers(
    checkpoints: Sequence[Checkpoint], weights: Sequence[float], texts: Sequence[str]
) -> list[Answer]:
    """One number a text, or for a model of two texts the number of `first TAB second`."""
    inputs = [dict(zip(("text", "text_pair"), text.split("\t", 1), strict=False)) for text in texts]
    pooled = np.zeros(len(texts))
    for weight, checkpoint in zip(weights, checkpoints, strict=True):
        model = load_model(checkpoint, "value").model
        logits = find_outputs(model, inputs, batch_size=BATCH)
        pooled += weight * logits.double().numpy()[:, 0]
    return [
        Answer(text, "number", f"{value:.4f}", None, {})
        for text, value in zip(texts, pooled, strict=True)
    ]


def check_labels(checkpoints: Sequence[Checkpoint]) -> tuple[str, ...]:
    """The labels of all models, in the order of the first.

    Raises:
        MismatchError: label sets differ, a name stands twice, or the names are LABEL_0, LABEL_1 and
            so on, which say nothing about what a model was trained on.
    """
    first, *others = checkpoints
    labels = find_loader(first, "classes")[1]
    for other in others:
        found = find_loader(other, "classes")[1]
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
