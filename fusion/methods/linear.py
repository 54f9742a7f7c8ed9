"""The weighted average."""

from collections.abc import Sequence

import torch

from fusion.methods.blocks import BLOCK_ELEMENTS, larger, load_block, scratch
from fusion.methods.contract import TORCH_DTYPES
from fusion.plans.plan import TensorRequest


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
    total, loaded = scratch(wide)
    largest = 0.0
    for low in range(0, out.numel(), BLOCK_ELEMENTS):
        high = min(low + BLOCK_ELEMENTS, out.numel())
        block = total[: high - low].zero_()
        for tensor, weight in zip(inputs, weights, strict=True):
            part = load_block(tensor[low:high], work, wide, loaded[: high - low])
            block.add_(part, alpha=weight.item())
        if divisor != 1.0:
            block.div_(divisor)
        least, most = torch.aminmax(block)
        largest = larger(largest, float(least), float(most))
        out[low:high].copy_(block if work == wide else block.to(work))
    return largest
