"""The weighted average."""

import math
import threading
from collections.abc import Sequence

import torch

from fusion.methods.kernel import TORCH_DTYPES
from fusion.plan import TensorRequest

# 128 Ki elements: sums and inputs of a block stay in the caches, and two threads meet at the
# interpreter half as often as with 64 Ki, which took a third longer.
BLOCK_ELEMENTS = 1 << 17
_KEPT = threading.local()


def weighted_sum(
    request: TensorRequest, inputs: Sequence[torch.Tensor], out: torch.Tensor
) -> float:
    """Fill `out` with sum_i w_i x_i, divided by sum_i w_i where the request says `normalize`.

    Terms are added in the order given by fused multiply-add in float32 (float64 where the work
    dtype is float64), then one division, one rounding to the work dtype and one to the output's.
    No element depends on its neighbours, so the bits do not depend on how a tensor is cut.

    Args:
        request: weights, dtypes and `normalize`.
        inputs: n tensors [e], each in the dtype of its source.
        out: [e] in the output dtype.

    Returns:
        Largest magnitude of the result before rounding to the output dtype; nan if there is one.

    Source: Wortsman et al. 2022, Model soups, arXiv:2203.05482, section 2.
    """
    work = TORCH_DTYPES[request.work_dtype]
    wide = torch.float64 if work == torch.float64 else torch.float32
    weights = [torch.tensor(weight, dtype=wide) for weight in request.weights]
    divisor = float(sum(weights[1:], weights[0])) if request.normalize else 1.0
    total, loaded = _scratch(wide)
    largest = 0.0
    for low in range(0, out.numel(), BLOCK_ELEMENTS):
        high = min(low + BLOCK_ELEMENTS, out.numel())
        block = total[: high - low].zero_()
        for tensor, weight in zip(inputs, weights, strict=True):
            part = _loaded(tensor[low:high], work, wide, loaded[: high - low])
            block.add_(part, alpha=weight.item())
        if divisor != 1.0:
            block.div_(divisor)
        least, most = torch.aminmax(block)
        largest = _larger(largest, float(least), float(most))
        out[low:high].copy_(block if work == wide else block.to(work))
    return largest


def _loaded(
    part: torch.Tensor, work: torch.dtype, wide: torch.dtype, space: torch.Tensor
) -> torch.Tensor:
    """`part` in the work dtype, widened into `space`; nothing is copied that is wide already."""
    if part.dtype == wide == work:
        return part
    exact = work == wide and torch.finfo(part.dtype).bits < torch.finfo(wide).bits
    return space.copy_(part if part.dtype == work or exact else part.to(work))


def _scratch(wide: torch.dtype) -> tuple[torch.Tensor, torch.Tensor]:
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


def _larger(known: float, least: float, most: float) -> float:
    if math.isnan(known) or math.isnan(least) or math.isnan(most):
        return math.nan
    return max(known, -least, most)
