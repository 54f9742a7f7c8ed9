"""The flow: text in; is it a generation task? yes: text out; no: class out."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from fusion.checkpoint import Checkpoint
from jobs.models.loading import load_model

BATCH = 32


@dataclass(frozen=True, slots=True)
class Answer:
    """What a model says about one text.

    Attributes:
        text: that was asked.
        kind: "class" or "text".
        answer: the label, or the generated text.
        probability: of the label; None for text.
        probabilities: by label; empty for text.
    """

    text: str
    kind: str
    answer: str
    probability: float | None
    probabilities: dict[str, float]


def is_generation(checkpoint: Checkpoint) -> bool:
    """Whether the checkpoint writes text instead of choosing a class."""
    names = checkpoint.config.get("architectures")
    return isinstance(names, list) and any("LMHead" in str(name) for name in names)


def predict(
    checkpoints: Sequence[Checkpoint], weights: Sequence[float], texts: Sequence[str]
) -> list[Answer]:
    """Answers of one model, or of an ensemble by the linear pool of probabilities.

    Args:
        checkpoints: one, or several classifiers with the same labels.
        weights: one each, of sum 1.
        texts: at least one.

    Raises:
        ModelError: as `load_model`.
    """
    if is_generation(checkpoints[0]):
        from jobs.models.generation import generate

        written = generate(checkpoints[0], texts)
        return [Answer(t, "text", out, None, {}) for t, out in zip(texts, written, strict=True)]
    loaded = [load_model(checkpoint).model for checkpoint in checkpoints]
    pooled = sum(
        weight * model.predict(texts, batch_size=BATCH, max_length=None).probabilities
        for weight, model in zip(weights, loaded, strict=True)
    )
    labels = loaded[0].labels
    answers = []
    for text, row in zip(texts, np.asarray(pooled), strict=True):
        best = int(row.argmax())
        table = {label: float(p) for label, p in zip(labels, row, strict=True)}
        answers.append(Answer(text, "class", labels[best], float(row[best]), table))
    return answers
