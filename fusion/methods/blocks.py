"""Blocks of elements: source dtypes widened, scratch kept, the largest magnitude seen."""

import math
import threading

import torch

# 128 Ki elements: sums and inputs of a block stay in the caches, and two threads meet at the
# interpreter half as often as with 64 Ki, which took a third longer.
BLOCK_ELEMENTS = 1 << 17
_KEPT = threading.local()


def load_block(
    part: torch.Tensor, work: torch.dtype, wide: torch.dtype, space: torch.Tensor
) -> torch.Tensor:
    """`part` in the work dtype, widened into `space`; nothing is copied that is wide already."""
    if part.dtype == wide == work:
        return part
    exact = work == wide and torch.finfo(part.dtype).bits < torch.finfo(wide).bits
    return space.copy_(part if part.dtype == work or exact else part.to(work))


def scratch(wide: torch.dtype) -> tuple[torch.Tensor, torch.Tensor]:
    """Two blocks of this thread: memory that is fresh for every block costs more than the sums."""
    if not hasattr(_KEPT, "blocks"):
        _KEPT.blocks = {}
    blocks: dict[torch.dtype, tuple[torch.Tensor, torch.Tensor]] = _KEPT.blocks
    if wide not in blocks:
        blocks[wide] = (
            torch.empty(BLOCK_ELEMENTS, dtype=wide),
            torch.empty(BLOCK_ELEMENTS, dtype=wide),
        )
    return blocks[wide]


def larger(known: float, least: float, most: float) -> float:
    """The largest magnitude so far; nan once one was seen."""
    if math.isnan(known) or math.isnan(least) or math.isnan(most):
        return math.nan
    return max(known, -least, most)
