"""Sums over one block of a tensor: squares, and products of the result with its sources."""

from collections.abc import Sequence

import torch

from fusion.plans.health import BLOCK_ELEMENTS

# Squares that float32 adds up without overflow, and without losing more than 2**-46 to underflow.
LEAST_SQUARE, LARGEST_SQUARE = 2.0**-64, 2.0**100


def make_scratch() -> torch.Tensor:
    """What `block_sums` works in, [2, BLOCK_ELEMENTS] float64: reused, never read back."""
    return torch.empty(2, BLOCK_ELEMENTS, dtype=torch.float64)


def block_sums(
    output: torch.Tensor, sources: Sequence[torch.Tensor], scratch: torch.Tensor
) -> list[float]:
    """Sums of a block in which nothing is NaN or infinite.

    In float32, or float64 where an input is float64 or its squares leave the range of float32.
    Each sum is off by at most 2**-8 of the sum of magnitudes, whatever the order in which the
    library adds the 65,536 terms in float32: measured are 1e-5 for weights as they are, 3e-4 for
    the worst made up. Scratch memory is aligned, so the digits depend on values alone.

    Args:
        output: [e] output of the block, at most BLOCK_ELEMENTS.
        sources: n source tensors [e].
        scratch: scratch memory of `make_scratch`.

    Returns:
        1 + 2n sums: squares of the output; of each source, its squares and its products with the
        output.
    """
    if torch.float64 not in (output.dtype, *(source.dtype for source in sources)):
        sums = _sums(output, sources, scratch.view(torch.float32))
        squares = (sums[0], *sums[1::2])
        if all(LEAST_SQUARE <= square <= LARGEST_SQUARE for square in squares):
            return sums
    return _sums(output, sources, scratch)


def _sums(
    output: torch.Tensor, sources: Sequence[torch.Tensor], scratch: torch.Tensor
) -> list[float]:
    count = output.numel()
    result, source = scratch[0, :count], scratch[1, :count]
    result.copy_(output)
    sums = [torch.dot(result, result).item()]
    for values in sources:
        source.copy_(values)
        sums += torch.dot(source, source).item(), torch.dot(source, result).item()
    return sums
