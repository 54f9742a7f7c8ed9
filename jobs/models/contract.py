"""What a model is to everything else: inputs become rows, rows become tensors, or text."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from torch import Tensor

from fusion.scores.contract import Head

# What a loss does not count, by convention of the library.
IGNORED_LABEL = -100


@dataclass(frozen=True, slots=True, eq=False)
class Encoded:
    """n inputs as m rows of tensors, unpadded; a long input may have become several rows.

    Attributes:
        rows: m rows, each with tensors by name; the first axis of a tensor is padded.
        example: m numbers from 0 to n - 1: number of the input that each row belongs to.
        num_truncated: number of inputs of which a part was left out.
        padding: value that fills a tensor up, by tensor name; 0 for names that are absent.
        facts: m mappings of what encoding knows and the model does not read: "offsets" of tokens in
            their text, "parts" (which text a token belongs to); empty where a head has no use for
            them.
    """

    rows: Sequence[Mapping[str, Tensor]]
    example: Sequence[int]
    num_truncated: int
    padding: Mapping[str, int] = field(default_factory=dict)
    facts: Sequence[Mapping[str, object]] = ()


class Model(Protocol):
    """A loaded checkpoint. `labels` are () where the head has no classes."""

    head: Head
    labels: tuple[str, ...]

    def encode(
        self,
        inputs: Sequence[Mapping[str, object]],
        /,
        *,
        max_length: int | None,
        stride: int | None = None,
    ) -> Encoded:
        """Tokens, pixels or sound as tensors: on the CPU, without the weights.

        Args:
            inputs: n mappings with "text", and where there is one "text_pair"; "target" is a text
                that is fed to the decoder (its tokens are the row's "labels").
            max_length: number of tokens read of each input; None for as many as the model can read.
            stride: number of tokens that windows of a long input have in common; None cuts off its
                end.

        Raises:
            ModelError: an input of a kind that this model does not read.
        """

    def forward(self, batch: Mapping[str, Tensor], /) -> Mapping[str, Tensor]:
        """Outputs [b, ...] for one batch of tensors [b, ...]: from tensors to tensors alone."""

    def generate(self, batch: Mapping[str, Tensor], /, *, max_new_tokens: int) -> list[str]:
        """Greedy continuations of b rows.

        Raises:
            ModelError: the head cannot.
        """
