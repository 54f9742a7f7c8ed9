"""Hugging Face classifiers and regressors of the BERT, RoBERTa and GPT-2 families, offline."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
import transformers

from fusion.checkpoints.checkpoint import Checkpoint, model_tensors
from fusion.checkpoints.heads import find_head
from fusion.checkpoints.spare import is_constant
from jobs.errors import ModelError
from jobs.models.filling import fill_skeleton, make_skeleton, quiet_library
from jobs.models.offered import check_architecture
from jobs.models.text_model import TextModel
from jobs.models.tokenizer import load_tokenizer
from jobs.models.unfilled import Unfilled, choose_device

CLASSES: Mapping[str, Any] = {
    "bert": transformers.BertForSequenceClassification,
    "roberta": transformers.RobertaForSequenceClassification,
    "gpt2": transformers.GPT2ForSequenceClassification,
}


def load_huggingface(folder: Path, checkpoint: Checkpoint, labels: tuple[str, ...]) -> Unfilled:
    """The classifier or regressor whose side files are in a folder; its class is chosen here.

    Raises:
        ModelError: no classification head, no tokenizer, or tensors that do not fit.
    """
    quiet_library()
    kind = str(checkpoint.config["model_type"])
    check_architecture(checkpoint, kind)
    tokenizer = load_tokenizer(folder, checkpoint)
    skeleton = make_skeleton(CLASSES[kind], folder, model_tensors(checkpoint))
    problems = dict(skeleton.problems)
    constants = {spec.name for spec in model_tensors(checkpoint) if is_constant(spec)}
    unexpected = [n for n in problems.pop("unexpected_keys", []) if n not in constants]
    if problems or unexpected:
        raise ModelError(
            f"tensors do not fit {CLASSES[kind].__name__}: {problems}, unexpected {unexpected}",
            "export the checkpoint again with save_pretrained",
        )
    device = choose_device()
    head = find_head(checkpoint.config) or "classes"

    def fill(tensors: Mapping[str, torch.Tensor]) -> TextModel:
        return TextModel(fill_skeleton(skeleton, tensors, device), tokenizer, head, labels)

    return Unfilled(device, fill)
