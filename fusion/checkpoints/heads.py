"""What a model ends in and what its classes are called, read from its config alone."""

from collections.abc import Mapping

from fusion.scores.contract import Head

# transformers leaves the two default labels out of config.json.
DEFAULT_LABELS = 2
ENDINGS: Mapping[str, Head] = {
    "ForSequenceClassification": "classes",
    "LSTMClassifier": "classes",
    "ForTokenClassification": "token-classes",
    "ForQuestionAnswering": "span",
    "LMHeadModel": "tokens",
    "ForCausalLM": "tokens",
    "ForConditionalGeneration": "tokens",
}


def find_head(config: Mapping[str, object]) -> Head | None:
    """What the model ends in; None where its architectures do not tell.

    A head for sequences is what the library's loss makes of it: several labels at once where
    `problem_type` says so, a number where it has one output or `problem_type` is regression.
    """
    architectures = config.get("architectures")
    names = [str(name) for name in architectures] if isinstance(architectures, list) else []
    found = [head for end, head in ENDINGS.items() if any(name.endswith(end) for name in names)]
    if not found:
        return None
    if found[0] == "classes":
        problem = config.get("problem_type")
        if problem == "multi_label_classification":
            return "labels"
        if problem == "regression" or count_labels(config) == 1:
            return "value"
    return found[0]


def read_labels(config: Mapping[str, object]) -> tuple[str, ...] | None:
    """Class names in the order of the model's outputs; None where they are not numbered from 0."""
    table = config.get("id2label")
    if not isinstance(table, Mapping):
        return tuple(f"LABEL_{number}" for number in range(count_labels(config)))
    by_key = {str(key): str(name) for key, name in table.items()}
    if by_key.keys() != {str(number) for number in range(len(table))}:
        return None
    return tuple(by_key[str(number)] for number in range(len(table)))


def find_label_conflict(config: Mapping[str, object]) -> str:
    """Where id2label and label2id give a label different numbers; "" where they agree."""
    labels, inverse = read_labels(config), config.get("label2id")
    if labels is None or not isinstance(inverse, Mapping):
        return ""
    for number, label in enumerate(labels):
        other = inverse.get(label, number)
        if labels.count(label) == 1 and str(other) != str(number):
            return f"{label!r:.60} is {number} in id2label and {other!r:.60} in label2id"
    return ""


def count_labels(config: Mapping[str, object]) -> int:
    """How many outputs a head for classes or values has."""
    table, count = config.get("id2label"), config.get("num_labels")
    if isinstance(table, Mapping):
        return len(table)
    return count if isinstance(count, int) and count > 0 else DEFAULT_LABELS
