"""Is a checkpoint a model for this kind of task? Decided from its config, before it is loaded."""

from collections.abc import Mapping

from fusion.checkpoints.checkpoint import Checkpoint
from fusion.checkpoints.heads import count_labels, find_head, read_labels
from fusion.scores.contract import Head
from jobs.errors import ModelError

DOES: Mapping[Head, str] = {
    "classes": "chooses one class",
    "labels": "decides on several labels at once (problem_type: multi_label_classification)",
    "value": "says a number (one output, or problem_type: regression)",
    "span": "finds a span of a text",
    "token-classes": "chooses a class for each token",
    "tokens": "writes text",
}
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
