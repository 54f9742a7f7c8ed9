"""Heads that adapters bring along: the model is the body of a base with another head.

PEFT keeps a head that was trained whole in `modules_to_save`. The base is what was downloaded: a
bare encoder, or one with a head for another task, which the model does not have.
"""

import re
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass

from fusion.checkpoints.checkpoint import TensorSpec
from fusion.checkpoints.heads import count_labels

# What architectures end in, by PEFT's task_type, and the heads that PEFT saves without being told.
ENDINGS = {
    "SEQ_CLS": "ForSequenceClassification",
    "TOKEN_CLS": "ForTokenClassification",
    "QUESTION_ANS": "ForQuestionAnswering",
}
HEADS = {
    "SEQ_CLS": ("classifier", "score"),
    "TOKEN_CLS": ("classifier", "score"),
    "QUESTION_ANS": ("qa_outputs",),
}
# Names that tensors of the body begin with in models that have a head.
BODIES = (
    "transformer.", "model.", "bert.", "roberta.", "distilbert.", "albert.", "electra.",
    "deberta.", "mpnet.", "longformer.", "vit.",
)  # fmt: skip
# What heads of bases begin with where the body has no name of its own.
FOREIGN = ("lm_head.", "cls.", "classifier.", "score.", "qa_outputs.", "predictions.", "vocab_")
CLASS_ENDING = re.compile(r"(LMHeadModel|Model|For[A-Z][A-Za-z]*)$")


@dataclass(frozen=True, slots=True)
class OwnHead:
    """What changes in a base whose adapter brings its own head.

    Attributes:
        tensors: tensors that the base lacks or has in another shape, by their name in the model.
        body: what names of the base's tensors get in front in the model; "" where they stay.
        left_out: names of the base's tensors that are of another head, sorted.
        config: config of the model: that of the base, with the architecture of the adapter's task.
    """

    tensors: Mapping[str, TensorSpec]
    body: str
    left_out: tuple[str, ...]
    config: Mapping[str, object]


def find_target(name: str, there: Mapping[str, TensorSpec]) -> TensorSpec | None:
    """The tensor of a base that an adapter calls `name`, with or without the body's name."""
    if name in there:
        return there[name]
    body = _find_body(name)
    return there.get(name.removeprefix(body)) if body else None


def is_own(name: str, settings: Mapping[str, object]) -> bool:
    """Whether a tensor belongs to a module that the adapter saved whole."""
    listed = settings.get("modules_to_save")
    modules = [str(entry) for entry in listed] if isinstance(listed, list) else []
    modules += HEADS.get(str(settings.get("task_type")), ())
    return any(f".{module}." in f".{name}" for module in modules)


def is_head(name: str, settings: Mapping[str, object]) -> bool:
    """Whether a tensor is of the head of the adapter's task, which may have any shape."""
    return name.startswith(tuple(f"{head}." for head in HEADS.get(_task(settings), ())))


def find_own_head(
    tensors: Mapping[str, TensorSpec],
    modules: Iterable[str],
    base: Collection[str],
    *,
    settings: Mapping[str, object],
    config: Mapping[str, object],
) -> OwnHead:
    """The model of a base and the tensors that only its adapter has.

    Args:
        tensors: tensors of saved modules that the base lacks or has in another shape, by name.
        modules: names by which the adapter calls the modules that it changes.
        base: names of the base's tensors.
        settings: content of adapter_config.json.
        config: content of the base's config.json.
    """
    bodies = {body for module in modules if (body := _find_body(module))}
    named = tuple(sorted(body for body in bodies if any(n.startswith(body) for n in base)))
    if not any(not name.startswith(tuple(bodies) or "\0") for name in tensors):
        left_out: Sequence[str] = ()
    elif named:
        left_out = [name for name in base if not name.startswith(named)]
    else:
        left_out = [name for name in base if name.startswith(FOREIGN)]
    is_bare = not named and len(bodies) == 1
    return OwnHead(
        tensors=tensors,
        body=next(iter(bodies)) if is_bare else "",
        left_out=tuple(sorted(left_out)),
        config=_change_config(config, tensors, _task(settings)),
    )


def _change_config(
    config: Mapping[str, object], tensors: Mapping[str, TensorSpec], task: str
) -> Mapping[str, object]:
    """The base's config with the architecture of the task and as many labels as the head has."""
    table = dict(config)
    names = config.get("architectures")
    if task in ENDINGS and isinstance(names, list) and names:
        table["architectures"] = [CLASS_ENDING.sub("", str(names[0])) + ENDINGS[task]]
    counts = [
        tensors[name].shape[0]
        for head in HEADS.get(task, ())
        for name in (f"{head}.weight", f"{head}.out_proj.weight")
        if name in tensors and tensors[name].shape
    ]
    if task in ("SEQ_CLS", "TOKEN_CLS") and counts and count_labels(config) != counts[0]:
        labels = [f"LABEL_{number}" for number in range(counts[0])]
        table["id2label"] = {str(number): label for number, label in enumerate(labels)}
        table["label2id"] = {label: number for number, label in enumerate(labels)}
        table.pop("num_labels", None)
    return table


def _find_body(name: str) -> str:
    return next((body for body in BODIES if name.startswith(body)), "")


def _task(settings: Mapping[str, object]) -> str:
    return str(settings.get("task_type"))
