"""What a model is to everything else: labels, and probabilities for texts."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import numpy.typing as npt
import torch


@dataclass(frozen=True, slots=True, eq=False)
class Predictions:
    """Probabilities for n texts.

    Attributes:
        probabilities: [n, c] float64, rows of sum 1 in the order of the model's labels.
        num_truncated: texts that were longer than the model reads.
    """

    probabilities: npt.NDArray[np.float64]
    num_truncated: int


class Model(Protocol):
    """A text classifier."""

    labels: tuple[str, ...]

    def predict(
        self, texts: Sequence[str], /, *, batch_size: int, max_length: int | None
    ) -> Predictions:
        """Probabilities for each text, in order; independent of how texts are batched (to 1e-5).

        Args:
            texts: n texts.
            batch_size: texts a forward pass.
            max_length: tokens read of each text; None: what the model can.
        """


# forward(padded token ids [b, t], lengths [b]) -> logits [b, c]
Forward = Callable[[torch.Tensor, torch.Tensor], torch.Tensor]


def predict_in_batches(
    encoded: Sequence[Sequence[int]], forward: Forward, *, batch_size: int, padding: int
) -> npt.NDArray[np.float64]:
    """Softmax of logits for token sequences, batched by length, returned in input order.

    The softmax is taken in float64, whatever the dtype of the logits.
    """
    order = sorted(range(len(encoded)), key=lambda i: (len(encoded[i]), i))
    rows: list[tuple[int, npt.NDArray[np.float64]]] = []
    with torch.inference_mode():
        for start in range(0, len(order), batch_size):
            chosen = order[start : start + batch_size]
            lengths = torch.tensor([max(1, len(encoded[i])) for i in chosen])
            tokens = torch.full((len(chosen), int(lengths.max())), padding)
            for row, index in enumerate(chosen):
                tokens[row, : len(encoded[index])] = torch.tensor(encoded[index], dtype=torch.int64)
            logits = forward(tokens, lengths)
            values = torch.softmax(logits.double(), dim=-1).cpu().numpy()
            rows += list(zip(chosen, values, strict=True))
    rows.sort(key=lambda entry: entry[0])
    return np.stack([values for _, values in rows])
