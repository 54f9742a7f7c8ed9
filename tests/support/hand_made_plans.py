"""Merge requests over checkpoints made by hand."""

from fusion.plans.requests import model_request
from fusion.plans.wish import MergeWish
from tests.support.hand_made import make_adapter, make_checkpoint

SHAPES = {
    "embed.weight": (7, 4), "position_ids": (1, 5), "dense.weight": (4, 4), "dense.bias": (4,),
    "scalar": (), "empty": (0, 4),
}  # fmt: skip
DTYPES = {**dict.fromkeys(SHAPES, "BF16"), "position_ids": "I64"}


def average(dtype=None):
    """Of two checkpoints that have a matrix, a row, a scalar, an empty tensor and whole numbers."""
    two = [make_checkpoint(name, SHAPES, dtype=DTYPES) for name in "ab"]
    return model_request(two, [0.25, 0.75], MergeWish(dtype=dtype))


def two_adapters(*, is_transposed=False):
    """Adapters of one base, of ranks 2 and 3; the first adapts a second tensor by rank 1."""
    shapes = {"x.weight": (6, 4), "y.weight": (4, 8), "bias": (3,)}
    base = make_checkpoint("base", shapes, dtype="BF16")
    first, second = {"x.weight": 2, "y.weight": 1}, {"x.weight": 3}
    return [
        make_adapter("a", base, first, is_transposed=is_transposed),
        make_adapter("b", base, second, is_transposed=is_transposed),
    ]
