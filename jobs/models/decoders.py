"""Text generation with GPT-2 language models, greedily."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
import transformers

from fusion.checkpoints.checkpoint import Checkpoint, model_tensors
from jobs.errors import ModelError
from jobs.models.adapted_tensors import load_tensors
from jobs.models.filling import fill_skeleton, make_skeleton, quiet_library
from jobs.models.side_files import side_files
from jobs.models.unfilled import choose_device

NEW_TOKENS = 40


def generate(checkpoint: Checkpoint, texts: Sequence[str]) -> list[str]:
    """The greedy continuation of each text, at most 40 tokens.

    Raises:
        ModelError: not a GPT-2 language model, or tensors that do not fit.
    """
    if checkpoint.config.get("model_type") != "gpt2" or "auto_map" in checkpoint.config:
        raise ModelError(
            f"{checkpoint.name} is a {checkpoint.config.get('model_type')!r} language model; gpt2 "
            "is the kind that can write text"
        )
    with side_files(checkpoint) as folder:
        model, tokenizer = _load(checkpoint, folder)
    written = []
    for text in texts:
        tokens = tokenizer(text or tokenizer.eos_token, return_tensors="pt").to(model.device)
        with torch.inference_mode():
            out = model.generate(
                **tokens,
                max_new_tokens=NEW_TOKENS,
                do_sample=False,
                pad_token_id=tokenizer.eos_token_id or 0,
            )
        written.append(tokenizer.decode(out[0, tokens["input_ids"].shape[1] :]))
    return written


def _load(checkpoint: Checkpoint, folder: Path) -> tuple[Any, Any]:
    """Model and tokenizer, with the settings for generation that its side files hold."""
    quiet_library()
    tokenizer = transformers.AutoTokenizer.from_pretrained(
        folder, local_files_only=True, trust_remote_code=False
    )
    skeleton = make_skeleton(transformers.GPT2LMHeadModel, folder, model_tensors(checkpoint))
    if skeleton.problems:
        raise ModelError(
            f"{checkpoint.name}: tensors do not fit GPT2LMHeadModel: {dict(skeleton.problems)}"
        )
    device = choose_device()
    model = fill_skeleton(skeleton, load_tensors(checkpoint, device).tensors, device)
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
    return model, tokenizer
