"""Is a checkpoint a model for this kind of task? Decided from its config, before it is loaded."""

from collections.abc import Mapping
from dataclasses import replace

from fusion.checkpoints.checkpoint import Checkpoint
from fusion.checkpoints.heads import count_labels, find_head, find_label_conflict, read_labels
from fusion.scores.contract import Head
from jobs.candidates.find import Found
from jobs.candidates.skipped import Skipped
from jobs.errors import IncompleteError, ModelError

DOES: Mapping[Head, str] = {
    "classes": "chooses one class",
    "labels": "decides on several labels at once (problem_type: multi_label_classification)",
    "value": "says a number (one output, or problem_type: regression)",
    "span": "finds a span of a text",
    "token-classes": "chooses a class for each token",
    "tokens": "writes text",
}
INVERSE_HINT = "make the two the inverse of each other, as the model was trained"
WITH_LABELS = ("classes", "labels", "token-classes")


def check_head(checkpoint: Checkpoint, wanted: Head) -> tuple[str, ...]:
    """The labels of a checkpoint; () where its head has none.

    Raises:
        ModelError: the head is of another sort, or its labels cannot be read.
    """
    found = find_head(checkpoint.config)
    if found is not None and found != wanted:
        raise ModelError(
            f"{checkpoint.name} {DOES[found]}; a model that {DOES[wanted]} is needed. Nothing was "
            "evaluated.",
            "choose the task.kind that fits the model, or fine-tune it for this task",
        )
    if found == "value" and count_labels(checkpoint.config) != 1:
        raise ModelError(
            f"{checkpoint.name} says {count_labels(checkpoint.config)} numbers, one is needed; "
            "nothing was evaluated",
            "fine-tune it with num_labels: 1",
        )
    if wanted not in WITH_LABELS:
        return ()
    labels = read_labels(checkpoint.config)
    if labels is None:
        raise ModelError(
            f"{checkpoint.name}: id2label does not number labels from 0: "
            f"{checkpoint.config.get('id2label')!s:.200}",
            "number them from 0 in id2label of config.json",
        )
    return labels


def drop_contradicting(found: Found) -> Found:
    """Candidates whose id2label and label2id agree; the others are skipped by name.

    Scores by the one would be of other classes than scores by the other, and no loss would tell.
    """
    said = {c.name: find_label_conflict(c.config) for c in found.candidates}
    dropped = tuple(
        Skipped(
            c.name,
            c.uri,
            IncompleteError.code,
            f"{c.name}/config.json contradicts itself: {said[c.name]}",
            hint=INVERSE_HINT,
        )
        for c in found.candidates
        if said[c.name]
    )
    kept = tuple(c for c in found.candidates if not said[c.name])
    return replace(found, candidates=kept, skipped=found.skipped + dropped)
