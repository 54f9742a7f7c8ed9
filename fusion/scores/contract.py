"""What a kind of task says of itself without a model: columns, head, metrics, how to pool."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np

from fusion.scores.records import Floats, Records, Score, ratio_error

# What a model ends in: one class, several labels at once, numbers, a start and an end in the text,
# a class a token, or the next token.
Head = Literal["classes", "labels", "value", "span", "token-classes", "tokens"]
# What a column of the data holds: "text" is checked to be text, "any" is left to the kind.
Sort = Literal["text", "label", "number", "any"]


@dataclass(frozen=True, slots=True)
class Metric:
    """A figure beside the loss, for report and guards. Exactly one of `each` and `of` is given.

    Attributes:
        title: name of the metric in reports.
        each: gives one figure an example, [n]; the metric is their mean, and a guard tests it by t.
            None where `of` is given.
        of: gives the figure of all examples together; a guard resamples clusters. None where `each`
            is given.
        is_better_high: whether more is better; None for neither, so that no guard can use the
            metric.
        is_share: whether the metric is a share of the examples, shown in percent.
    """

    title: str
    each: Callable[[Records], Floats] | None = None
    of: Callable[[Records], float] | None = None
    is_better_high: bool | None = True
    is_share: bool = False

    def value(self, records: Records) -> float:
        """The metric of these records."""
        if self.each is not None:
            return float(self.each(records).mean())
        assert self.of is not None
        return float(self.of(records))


@dataclass(frozen=True, slots=True)
class TaskSpec:
    """What a recipe may say of a kind of task, and what its records mean.

    Attributes:
        kind: name of the kind.
        head: head that models of this kind end in.
        columns: sort of data by role of the column; the last role is the truth.
        metrics: metrics by name.
        shown: names of the metrics that tables show; where there is room for only one, the first.
        loss: what the loss is, for people.
        measure: what the loss is called in a sentence.
        unit: unit of the loss; "" for none.
        optional: roles that a recipe may leave out; each other role defaults to a column of its own
            name.
        answers: gives losses and columns from outputs [n, c] and columns (of which "truth" is
            read), for an ensemble. None if outputs of this kind cannot be pooled.
        floor: the predictor that knows only the truths' distribution, named for people.
        knows: whether a model with a loss above the floor still knows something, and the figures
            that say so. None if no such model does.
        version: version of the kind, raised when the same data and model would give other records.
    """

    kind: str
    head: Head
    columns: Mapping[str, Sort]
    metrics: Mapping[str, Metric]
    shown: tuple[str, ...] = ()
    loss: str = "mean loss"
    measure: str = "loss"
    unit: str = ""
    optional: frozenset[str] = frozenset()
    answers: Callable[[Floats, Mapping[str, Floats]], Mapping[str, Floats]] | None = None
    floor: str = "the truths' distribution"
    knows: Callable[[Records], tuple[bool, str]] | None = None
    version: int = 1

    @property
    def truth(self) -> str:
        """Role of the truth."""
        return tuple(self.columns)[-1]

    @property
    def guards(self) -> tuple[str, ...]:
        """Metrics that a guard may name."""
        return tuple(n for n, metric in self.metrics.items() if metric.is_better_high is not None)


def score(
    records: Records,
    metrics: Mapping[str, Metric],
    *,
    name: str,
    slice: str,  # noqa: A002  # the field's word
) -> Score:
    """Aggregates of one checkpoint on one slice."""
    return Score(
        name=name,
        slice=slice,
        num_examples=len(records.ids),
        num_clusters=len(set(records.clusters)),
        loss=records.loss,
        loss_error=ratio_error(records),
        metrics={key: metric.value(records) for key, metric in metrics.items()},
    )


def ensemble(
    members: Sequence[Records], weights: Sequence[float], spec: TaskSpec
) -> Records | None:
    """Linear pool of recorded outputs, y = sum_i w_i y_i, with no further forward pass.

    Args:
        members: records of each member, of the same examples in the same order.
        weights: one weight for each member, of sum 1, none negative.
        spec: says what losses and columns the pooled outputs have.

    Returns:
        None where the outputs of this kind cannot be pooled.

    Raises:
        ValueError: examples differ.
    """
    first = members[0]
    if any(m.ids != first.ids for m in members) or len(members) != len(weights):
        raise ValueError("an ensemble needs the same examples and one weight a member")
    outputs = [member.outputs for member in members if member.outputs is not None]
    if spec.answers is None or len(outputs) < len(members):
        return None
    pooled = np.zeros_like(outputs[0])
    for found, weight in zip(outputs, weights, strict=True):
        pooled += weight * found
    columns = {**first.columns, **spec.answers(pooled, first.columns)}
    losses = columns.pop("losses")
    return replace(first, losses=losses, columns=columns, outputs=pooled)
