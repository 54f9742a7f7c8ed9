"""GPT-2 language models, offline."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
import transformers

from fusion.checkpoints.checkpoint import Checkpoint, model_tensors
from fusion.checkpoints.spare import is_constant
from jobs.errors import ModelError
from jobs.models.filling import fill_skeleton, make_skeleton, quiet_library
from jobs.models.text_model import TextModel
from jobs.models.tokenizer import load_tokenizer
from jobs.models.unfilled import Unfilled, choose_device


def load_decoder(folder: Path, checkpoint: Checkpoint, labels: tuple[str, ...]) -> Unfilled:
    """The GPT-2 language model whose side files are in a folder, its settings for generation too.

    Raises:
        ModelError: no tokenizer, or tensors that do not fit.
    """
    quiet_library()
    tokenizer = load_tokenizer(folder, checkpoint)
    skeleton = make_skeleton(transformers.GPT2LMHeadModel, folder, model_tensors(checkpoint))
    problems = dict(skeleton.problems)
    constants = {spec.name for spec in model_tensors(checkpoint) if is_constant(spec)}
    unexpected = [n for n in problems.pop("unexpected_keys", []) if n not in constants]
    if problems or unexpected:
        raise ModelError(
            f"{checkpoint.name}: tensors do not fit GPT2LMHeadModel: {problems}, unexpected "
            f"{unexpected}"
        )
    device = choose_device()

    def fill(tensors: Mapping[str, torch.Tensor]) -> TextModel:
        model = fill_skeleton(skeleton, tensors, device)
        _adjust(model, folder)
        return TextModel(model, tokenizer, "tokens", labels)

    return Unfilled(device, fill)


def _adjust(model: Any, folder: Path) -> None:
    """Settings for generation that the side files hold, which the library reads after the model."""
    model.adjust_generation_fn(
        None,
        from_auto_class=False,
        from_pipeline=False,
        pretrained_model_name_or_path=folder,
        cache_dir=None,
        force_download=False,
        proxies=None,
        local_files_only=True,
        token=None,
        revision="main",
        subfolder="",
        trust_remote_code=False,
    )
