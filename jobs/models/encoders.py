"""Hugging Face text classifiers of the BERT, RoBERTa and GPT-2 families, offline."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
import transformers

from fusion.checkpoints.checkpoint import Checkpoint, model_tensors
from jobs.errors import ModelError
from jobs.models.contract import Predictions, predict_in_batches
from jobs.models.filling import fill_skeleton, make_skeleton, quiet_library
from jobs.models.unfilled import Unfilled, choose_device

CLASSES: Mapping[str, Any] = {
    "bert": transformers.BertForSequenceClassification,
    "roberta": transformers.RobertaForSequenceClassification,
    "gpt2": transformers.GPT2ForSequenceClassification,
}
SUFFIX = "ForSequenceClassification"


class LoadedClassifier:
    """A sequence classifier and its tokenizer."""

    def __init__(self, model: Any, tokenizer: Any, labels: tuple[str, ...], padding: int) -> None:
        self.labels = labels
        self._device = model.device
        self._model = model
        self._tokenizer = tokenizer
        self._padding = padding

    def predict(
        self, texts: Sequence[str], /, *, batch_size: int, max_length: int | None
    ) -> Predictions:
        """As the protocol says; longer texts lose their end."""
        limit = _limit(self._model.config, max_length)
        encoded = [self._tokenizer(text, truncation=False)["input_ids"] for text in texts]
        shortened = [
            ids
            if len(ids) <= limit
            else self._tokenizer(text, truncation=True, max_length=limit)["input_ids"]
            for ids, text in zip(encoded, texts, strict=True)
        ]
        probabilities = predict_in_batches(
            shortened, self._forward, batch_size=batch_size, padding=self._padding
        )
        return Predictions(probabilities, sum(len(ids) > limit for ids in encoded))

    def _forward(self, tokens: torch.Tensor, lengths: torch.Tensor) -> torch.Tensor:
        mask = torch.arange(tokens.shape[1])[None, :] < lengths[:, None]
        if isinstance(self._model, transformers.GPT2ForSequenceClassification):
            # It finds the last real token by the padding id, which may also end a text: classify
            # every position and take the last one that is real.
            hidden = self._model.transformer(
                tokens.to(self._device), attention_mask=mask.to(self._device)
            ).last_hidden_state
            logits = self._model.score(hidden)
            rows = torch.arange(len(lengths))
            return logits[rows, lengths.to(self._device) - 1]  # type: ignore[no-any-return]  # as below
        answer = self._model(tokens.to(self._device), attention_mask=mask.to(self._device))
        return answer.logits  # type: ignore[no-any-return]  # transformers is untyped here


def load_huggingface(folder: Path, checkpoint: Checkpoint, labels: tuple[str, ...]) -> Unfilled:
    """The classifier whose side files are in a folder. Its class is chosen here, by model_type.

    Raises:
        ModelError: no classification head, no tokenizer, or tensors that do not fit.
    """
    quiet_library()
    kind = str(checkpoint.config["model_type"])
    _check_head(kind, checkpoint.config.get("architectures"))
    try:
        tokenizer = transformers.AutoTokenizer.from_pretrained(
            folder, local_files_only=True, trust_remote_code=False
        )
    except (OSError, ValueError, TypeError) as error:
        raise ModelError(f"no tokenizer that can be loaded: {str(error).splitlines()[0]}") from None
    skeleton = make_skeleton(CLASSES[kind], folder, model_tensors(checkpoint))
    problems = dict(skeleton.problems)
    unexpected = [n for n in problems.pop("unexpected_keys", []) if "position_ids" not in n]
    if problems or unexpected:
        raise ModelError(
            f"tensors do not fit {CLASSES[kind].__name__}: {problems}, unexpected {unexpected}",
            "export the checkpoint again with save_pretrained",
        )
    padding = tokenizer.pad_token_id if tokenizer.pad_token_id is not None else 0
    device = choose_device()

    def fill(tensors: Mapping[str, torch.Tensor]) -> LoadedClassifier:
        model = fill_skeleton(skeleton, tensors, device)
        return LoadedClassifier(model, tokenizer, labels, padding)

    return Unfilled(device, fill)


def _check_head(kind: str, architectures: object) -> None:
    names = architectures if isinstance(architectures, list) else []
    if not any(str(name).endswith(SUFFIX) for name in names):
        raise ModelError(
            f"a {kind} checkpoint of architecture {names} has no classification head; "
            f"{kind.capitalize()}{SUFFIX} is expected",
            "fine-tune it for the task first",
        )


def _limit(config: Any, max_length: int | None) -> int:
    """Tokens the model can read. RoBERTa's positions start after its padding id."""
    positions = int(config.max_position_embeddings)
    if config.model_type == "roberta":
        positions -= int(config.pad_token_id) + 1
    return min(positions, max_length or positions)
