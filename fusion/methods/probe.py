"""A small merge whose bits tell whether two hosts compute alike."""

import hashlib

import torch

from fusion.methods import METHODS, TORCH_DTYPES
from fusion.plans.plan import TensorRequest

FLOATS = ("F16", "BF16", "F32", "F64")
# Not a multiple of any vector width: the rest at the end takes another path than the bulk.
ELEMENTS = 4099
WEIGHTS = (0.3, 0.5, -0.7, 0.9)


def digest_arithmetic(device: str = "cpu") -> str:
    """sha256 over the bits of weighted averages in the four floating dtypes.

    The numbers are the same on every host, whatever its versions: they come from whole numbers.
    Equal digests do not prove equal arithmetic; different ones prove that outputs would differ.

    Args:
        device: device on which the kernels run, "cpu" or "cuda".
    """
    digest = hashlib.sha256()
    for dtype in FLOATS:
        inputs = [_numbers(n).to(TORCH_DTYPES[dtype]).to(device) for n in range(len(WEIGHTS))]
        for normalize in (False, True):
            out = torch.zeros(ELEMENTS, dtype=TORCH_DTYPES[dtype], device=device)
            METHODS["linear"](_request(dtype, normalize=normalize), inputs, out)
            digest.update(out.cpu().view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()


def _numbers(seed: int) -> torch.Tensor:
    """[ELEMENTS] float64 in (-4, 4), spread over eight magnitudes."""
    counts = torch.arange(ELEMENTS, dtype=torch.int64) * 2654435761 + seed * 40503
    whole = counts.remainder(1 << 32).to(torch.float64) / float(1 << 31) - 1.0
    return whole * torch.pow(2.0, (counts.remainder(8) - 5).to(torch.float64))


def _request(dtype: str, *, normalize: bool) -> TensorRequest:
    return TensorRequest(
        "probe", (ELEMENTS,), dtype, dtype, "linear", WEIGHTS, normalize=normalize, sources=()
    )
