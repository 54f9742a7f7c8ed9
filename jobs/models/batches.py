"""Rows of like length together, padded; written once for all models."""

from collections.abc import Iterator, Mapping, Sequence

import torch
from torch import Tensor

from jobs.models.contract import Encoded, Model

Batch = Mapping[str, Tensor]


def batches(encoded: Encoded, batch_size: int) -> Iterator[tuple[list[int], Batch]]:
    """Batches of rows sorted by length, so that little is padded.

    Yields:
        Which rows they are, and their tensors [b, longest, ...].
    """
    lengths = [max((len(t) for t in row.values() if t.dim()), default=0) for row in encoded.rows]
    order = sorted(range(len(lengths)), key=lambda row: (lengths[row], row))
    for start in range(0, len(order), batch_size):
        chosen = order[start : start + batch_size]
        rows = [encoded.rows[row] for row in chosen]
        yield (
            chosen,
            {
                name: _stack([row[name] for row in rows], encoded.padding.get(name, 0))
                for name in rows[0]
            },
        )


def run_forward(
    model: Model, encoded: Encoded, batch_size: int
) -> Iterator[tuple[list[int], Batch, Batch]]:
    """Forward passes over all rows: which rows, what went in, what came out, on the CPU."""
    with torch.inference_mode():
        for chosen, batch in batches(encoded, batch_size):
            found = model.forward(batch)
            yield chosen, batch, {name: tensor.cpu() for name, tensor in found.items()}


def find_outputs(
    model: Model,
    inputs: Sequence[Mapping[str, object]],
    *,
    batch_size: int,
    max_length: int | None = None,
) -> Tensor:
    """The logits of each input, [n, ...], in the order given."""
    encoded = model.encode(inputs, max_length=max_length)
    rows = [
        (row, logits)
        for chosen, _, found in run_forward(model, encoded, batch_size)
        for row, logits in zip(chosen, found["logits"], strict=True)
    ]
    rows.sort(key=lambda entry: entry[0])
    return torch.stack([logits for _, logits in rows])


def _stack(tensors: Sequence[Tensor], padding: int) -> Tensor:
    if not tensors[0].dim():
        return torch.stack(list(tensors))
    longest = max(len(tensor) for tensor in tensors)
    shape = (len(tensors), longest, *tensors[0].shape[1:])
    stacked = torch.full(shape, padding, dtype=tensors[0].dtype)
    for row, tensor in enumerate(tensors):
        stacked[row, : len(tensor)] = tensor
    return stacked
