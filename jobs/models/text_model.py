"""A model of the transformers library and its tokenizer: texts as rows, windows, tensors, text."""

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from fusion.scores.contract import Head
from jobs.errors import ModelError
from jobs.models.contract import IGNORED_LABEL, Encoded

# Heads whose truths stand at places in the text: encoding tells where its tokens are.
WITH_PLACES = ("span", "token-classes")


class TextModel:
    """A loaded model of any head, on the device that its loader chose."""

    def __init__(self, model: Any, tokenizer: Any, head: Head, labels: tuple[str, ...]) -> None:
        self.head: Head = head
        self.labels = labels
        self._model = model
        self._tokenizer = tokenizer
        self._padding = tokenizer.pad_token_id if tokenizer.pad_token_id is not None else 0

    def encode(
        self,
        inputs: Sequence[Mapping[str, object]],
        /,
        *,
        max_length: int | None,
        stride: int | None = None,
    ) -> Encoded:
        """As the protocol says; windows are cut from the second of two texts."""
        limit = find_limit(self._model.config, max_length)
        rows: list[Mapping[str, Tensor]] = []
        facts: list[Mapping[str, object]] = []
        example: list[int] = []
        num_truncated = 0
        # Where one is a pair, all tell their segments: rows of one batch have the same names.
        with_segments = any("text_pair" in entry for entry in inputs)
        for number, entry in enumerate(inputs):
            found, is_cut = self._tokens_of(entry, limit, stride)
            num_truncated += is_cut
            for row in range(len(found["input_ids"])):
                rows.append(self._row(found, row, entry, with_segments=with_segments))
                facts.append(_places(found, row))
                example.append(number)
        padding = {"input_ids": self._padding, "labels": IGNORED_LABEL}
        return Encoded(rows, example, num_truncated, padding, facts)

    def forward(self, batch: Mapping[str, Tensor], /) -> Mapping[str, Tensor]:
        """All logits of the head by the names that the library gives them."""
        here = {name: tensor.to(self._model.device) for name, tensor in batch.items()}
        if self._model.config.model_type == "gpt2" and self.head != "tokens":
            return {"logits": self._last_logits(here)}
        answer = self._model(**here)
        return {name: value for name, value in answer.items() if name.endswith("logits")}

    def generate(self, batch: Mapping[str, Tensor], /, *, max_new_tokens: int) -> list[str]:
        """Row by row, so that no row is padded; of a long prompt the end, which leaves room."""
        if self.head != "tokens":
            raise ModelError(f"a model with a head for {self.head} writes no text")
        written = []
        for ids, mask in zip(batch["input_ids"], batch["attention_mask"], strict=True):
            kept = max(1, find_limit(self._model.config, None) - max_new_tokens)
            prompt = ids[mask][-kept:].unsqueeze(0).to(self._model.device)
            with torch.inference_mode():
                out = self._model.generate(
                    prompt,
                    attention_mask=torch.ones_like(prompt),
                    max_new_tokens=max_new_tokens,
                    do_sample=False,
                    pad_token_id=self._tokenizer.eos_token_id or 0,
                )
            written.append(self._tokenizer.decode(out[0, prompt.shape[1] :]))
        return written

    def _tokens_of(
        self, entry: Mapping[str, object], limit: int, stride: int | None
    ) -> tuple[Any, bool]:
        """Tokens of one input, in one row or in windows, and whether its end was lost."""
        text = str(entry["text"])
        if not text and self.head == "tokens":
            text = self._tokenizer.eos_token
        pair = entry.get("text_pair")
        texts = ([text],) if pair is None else ([text], [str(pair)])
        with_places = self.head in WITH_PLACES
        whole = self._tokenizer(*texts, truncation=False, return_offsets_mapping=with_places)
        if len(whole["input_ids"][0]) <= limit:
            return whole, False
        cut = {"max_length": limit, "return_offsets_mapping": with_places}
        if stride is None and self.head == "tokens":  # what is written goes on from the end
            return {name: [row[-limit:] for row in rows] for name, rows in whole.items()}, True
        if stride is None:
            return self._tokenizer(*texts, truncation=True, **cut), True
        part = True if pair is None else "only_second"
        windows = self._tokenizer(
            *texts, truncation=part, stride=stride, return_overflowing_tokens=True, **cut
        )
        return windows, False

    def _row(
        self, found: Any, row: int, entry: Mapping[str, object], *, with_segments: bool
    ) -> Mapping[str, Tensor]:
        ids = found["input_ids"][row] or [self._padding]
        tensors = {
            "input_ids": torch.tensor(ids, dtype=torch.int64),
            "attention_mask": torch.ones(len(ids), dtype=torch.bool),
        }
        if with_segments and "token_type_ids" in found:
            tensors["token_type_ids"] = torch.tensor(found["token_type_ids"][row])
        if "target" in entry:
            target = self._tokenizer(text_target=str(entry["target"]))["input_ids"]
            tensors["labels"] = torch.tensor(target, dtype=torch.int64)
        return tensors

    def _last_logits(self, batch: Mapping[str, Tensor]) -> Tensor:
        """Logits of the last real token of each row.

        GPT-2 for sequences finds it by the padding id, which may also end a text.
        """
        mask = batch["attention_mask"]
        hidden = self._model.transformer(batch["input_ids"], attention_mask=mask).last_hidden_state
        logits: Tensor = self._model.score(hidden)
        rows = torch.arange(len(mask), device=mask.device)
        return logits[rows, mask.sum(dim=1) - 1]


def find_limit(config: Any, max_length: int | None) -> int:
    """Tokens the model can read. RoBERTa's positions start after its padding id."""
    positions = getattr(config, "max_position_embeddings", None)
    if positions is None:  # relative positions: no limit but memory
        return max_length or 1 << 30
    if config.model_type == "roberta":
        positions -= int(config.pad_token_id) + 1
    return min(int(positions), max_length or int(positions))


def _places(found: Any, row: int) -> Mapping[str, object]:
    if "offset_mapping" not in found:
        return {}
    return {
        "offsets": tuple(map(tuple, found["offset_mapping"][row])),
        "parts": tuple(found.sequence_ids(row)),
    }
