"""Text generation with GPT-2 language models, greedily."""

import os
from collections.abc import Sequence

os.environ.setdefault("HF_HUB_OFFLINE", "1")

import torch
import transformers

from fusion.checkpoints.checkpoint import Checkpoint
from jobs.errors import ModelError
from jobs.models.local_copy import local_copy

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
    with local_copy(checkpoint) as folder:
        tokenizer = transformers.AutoTokenizer.from_pretrained(
            folder, local_files_only=True, trust_remote_code=False
        )
        model, report = transformers.GPT2LMHeadModel.from_pretrained(
            folder,
            local_files_only=True,
            trust_remote_code=False,
            use_safetensors=True,
            dtype=torch.float32,
            output_loading_info=True,
        )
    problems = {key: sorted(map(str, value)) for key, value in report.items() if value}
    if problems:
        raise ModelError(f"{checkpoint.name}: tensors do not fit GPT2LMHeadModel: {problems}")
    model.eval()
    written = []
    for text in texts:
        tokens = tokenizer(text or tokenizer.eos_token, return_tensors="pt")
        with torch.inference_mode():
            out = model.generate(
                **tokens,
                max_new_tokens=NEW_TOKENS,
                do_sample=False,
                pad_token_id=tokenizer.eos_token_id or 0,
            )
        written.append(tokenizer.decode(out[0, tokens["input_ids"].shape[1] :]))
    return written
