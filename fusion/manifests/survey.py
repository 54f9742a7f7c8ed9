"""Evaluation data in figures, for `plan` and for the report."""

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Survey:
    """Evaluation data in figures.

    Attributes:
        num_rows: number of rows.
        num_clusters: number of clusters, of which none is cut by a slice.
        slices: number of examples by the name of the slice.
        num_repeated: number of examples in no slice, as they nearly repeat one of another slice.
        num_shared: number of examples of audit that nearly repeat one of gate.
        classes: number of rows by label, of models that choose one; of a file without any, 0.
        median_tokens: number of tokens of a middling example.
        high_tokens: number of tokens that 95 % of the examples do not exceed.
        most_tokens: number of tokens of the longest example that was counted.
        limit: number of tokens that the models read; None where memory alone is the limit.
        num_cut: number of examples that are longer.
        is_estimate: whether lengths are estimated, from characters or from a part of the rows.
        num_copies: number of rows that repeat an earlier row word for word.
        num_contradicting: number of texts that stand with more than one label.
    """

    num_rows: int
    num_clusters: int
    slices: Mapping[str, int]
    num_repeated: int
    num_shared: int
    classes: Mapping[str, int]
    median_tokens: int
    high_tokens: int
    most_tokens: int
    limit: int | None
    num_cut: int
    is_estimate: bool
    num_copies: int = 0
    num_contradicting: int = 0


@dataclass(frozen=True, slots=True)
class ExampleRow:
    """One example of the gate slice that changed much between best candidate and fused model.

    Attributes:
        id: name of the example.
        truth: what it is, for people.
        loss_best: loss of the best candidate.
        loss_fused: loss of the fused model.
        text: its beginning.
    """

    id: str
    truth: str
    loss_best: float
    loss_fused: float
    text: str
