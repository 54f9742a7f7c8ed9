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

    The first product, then terms added in the order given by fused multiply-add in float32
    (float64 where the work dtype is float64), then one division, one rounding to the work dtype and
    one to the output's. An element that goes beyond the dtype on the way, as sums of large values
    do before they are divided, is computed again with weights divided by their sum. No element
    depends on its neighbours, so the bits do not depend on how a tensor is cut.

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
    shares = [weight / divisor for weight in weights]
    largest = 0.0
    for low in range(0, out.numel(), BLOCK_ELEMENTS):
        high = min(low + BLOCK_ELEMENTS, out.numel())
        parts, block = [tensor[low:high] for tensor in inputs], total[: high - low]
        _add_up(parts, weights, out=block, space=loaded, work=work)
        if divisor != 1.0:
            block.div_(divisor)
        least, most = torch.aminmax(block)
        if divisor != 1.0 and not bool(torch.isfinite(most - least)):
            again = torch.empty_like(block)
            _add_up(parts, shares, out=again, space=loaded, work=work)
            block.copy_(torch.where(torch.isfinite(block), block, again))
            least, most = torch.aminmax(block)
        largest = larger(largest, float(least), float(most))
        out[low:high].copy_(block if work == wide else block.to(work))
    return largest


def _add_up(
    parts: Sequence[torch.Tensor],
    weights: Sequence[torch.Tensor],
    *,
    out: torch.Tensor,
    space: torch.Tensor,
    work: torch.dtype,
) -> None:
    """Fill `out` with the sum of weighted terms; a sum of zeros keeps their sign."""
    for index, (part, weight) in enumerate(zip(parts, weights, strict=True)):
        wide = load_block(part, work, out.dtype, space[: out.numel()])
        if index == 0:
            torch.mul(wide, weight.item(), out=out)
        else:
            out.add_(wide, alpha=weight.item())
