"""Which kinds of models are offered, and what of a checkpoint must fit: known without torch."""

import re
from collections.abc import Collection, Mapping

from fusion.checkpoints.checkpoint import Checkpoint, model_tensors
from fusion.checkpoints.heads import count_labels
from fusion.scores.contract import Head
from jobs.candidates.heads import DOES, check_head
from jobs.errors import ModelError

# (model_type, head) -> the tensor with a row an output; "" where the head has no tensor of its own.
OFFERED: Mapping[tuple[str, Head], str] = {
    ("lstm-classifier", "classes"): "dense.weight",
    ("bert", "classes"): "classifier.weight",
    ("roberta", "classes"): "classifier.out_proj.weight",
    ("gpt2", "classes"): "score.weight",
    ("bert", "labels"): "classifier.weight",
    ("roberta", "labels"): "classifier.out_proj.weight",
    ("gpt2", "labels"): "score.weight",
    ("bert", "value"): "classifier.weight",
    ("roberta", "value"): "classifier.out_proj.weight",
    ("gpt2", "value"): "score.weight",
    ("gpt2", "tokens"): "",
}
# Kinds that read one text, never a pair.
ONE_TEXT = frozenset(("lstm-classifier",))
LAYER = re.compile(r"(?:^|\.)(?:encoder\.layer|h)\.(\d+)\.")
SUFFIX = "ForSequenceClassification"
HUGGINGFACE = ("bert", "roberta", "gpt2")


def check_offered(checkpoint: Checkpoint, head: Head) -> str:
    """The model_type of a checkpoint that can be loaded with a certain head.

    Raises:
        ModelError: unknown kind, or code of its own.
    """
    config = checkpoint.config
    kind = config.get("model_type")
    known = [name for name, own in OFFERED if own == head]
    if "auto_map" in config:
        raise ModelError(
            f"{checkpoint.name} brings code of its own (auto_map); it was not run",
            "export it as one of: " + ", ".join(known),
        )
    if not isinstance(kind, str) or kind not in known:
        raise ModelError(
            f"{checkpoint.name} is a {kind!r} model; of those that a task like this needs (a model "
            f"that {DOES[head].partition(' (')[0]}), these kinds are offered: {', '.join(known)}",
            "metafuse merge averages models of any kind, without an evaluation",
        )
    return kind


def check_inputs(checkpoint: Checkpoint, roles: Collection[str]) -> None:
    """Refuse a model that does not read all inputs of a task.

    Args:
        checkpoint: the model.
        roles: roles of the task's columns.

    Raises:
        ModelError: it reads one text, and the task has two.
    """
    if checkpoint.config.get("model_type") in ONE_TEXT and "text_pair" in roles:
        raise ModelError(
            f"{checkpoint.name} ({checkpoint.config['model_type']}) reads one text, and "
            "task.columns.text_pair names a second; nothing was evaluated",
            "leave text_pair out, or write both texts into one column",
        )


def check_model(checkpoint: Checkpoint, head: Head) -> tuple[str, ...]:
    """Refuse by config and header alone what `load_model` would refuse; gives the labels.

    Raises:
        ModelError: not offered, another head or none, or a head with other outputs than labels.
    """
    labels = check_head(checkpoint, head)
    kind = check_offered(checkpoint, head)
    name = OFFERED[kind, head]
    if not name:
        return labels
    if kind in HUGGINGFACE:
        check_architecture(checkpoint, kind)
    rows = {
        spec.shape[0]
        for spec in model_tensors(checkpoint)
        if spec.shape and f".{spec.name}".endswith(f".{name}")
    }
    if not rows:
        raise ModelError(
            f"{checkpoint.name} has no {name}: it was saved without its head; nothing was "
            "evaluated",
            "save the fine-tuned model whole, with save_pretrained",
        )
    if kind in HUGGINGFACE:
        check_layers(checkpoint)
    count = count_labels(checkpoint.config)
    if rows != {count}:
        raise ModelError(
            f"{checkpoint.name}: {name} has {max(rows)} outputs, config.json names {count}; "
            "nothing was evaluated",
            "name all of them in id2label of config.json",
        )
    return labels


def check_layers(checkpoint: Checkpoint) -> None:
    """Refuse a config that names other layers than there are: a library would make them up.

    Raises:
        ModelError: names both numbers and the first layer that one has and the other lacks.
    """
    config = checkpoint.config
    named = config.get("num_hidden_layers", config.get("n_layer"))
    numbers = {
        int(found[1]) for spec in model_tensors(checkpoint) if (found := LAYER.search(spec.name))
    }
    if not isinstance(named, int) or numbers == set(range(named)):
        return
    odd = min(numbers ^ set(range(named)))
    lacking = "have no" if odd < named else "have a"
    raise ModelError(
        f"{checkpoint.name}: config.json names {named} layers, and the tensors {lacking} layer "
        f"{odd} (counted from 0). Nothing was evaluated.",
        "bring the config.json that was saved with these tensors",
    )


def check_architecture(checkpoint: Checkpoint, kind: str) -> None:
    """Refuse a model of transformers that has no head for texts.

    Raises:
        ModelError: names the class that is expected.
    """
    architectures = checkpoint.config.get("architectures")
    names = architectures if isinstance(architectures, list) else []
    if not any(str(name).endswith(SUFFIX) for name in names):
        raise ModelError(
            f"{checkpoint.name}, a {kind} checkpoint of architecture {names}, has no "
            "classification head; "
            f"{kind.capitalize()}{SUFFIX} is expected",
            "fine-tune it for the task first",
        )
