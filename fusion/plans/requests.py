"""Checkpoints that agree, one weight each, as a merge request."""

import math
from collections.abc import Sequence

from fusion.checkpoints.checkpoint import Checkpoint, model_tensors
from fusion.checkpoints.spare import find_spare
from fusion.dtypes import FLOATS, parse_dtype, promote
from fusion.errors import WeightError
from fusion.plans.method_specs import COPY
from fusion.plans.plan import MergeRequest, TensorRequest
from fusion.plans.sources import base_indices, find_source, with_bases
from fusion.plans.wish import MergeWish


def model_request(
    checkpoints: Sequence[Checkpoint], weights: Sequence[float], wish: MergeWish
) -> MergeRequest:
    """A whole model of checkpoints that agree (see `check_agree`).

    Tensors come in the file order of the first checkpoint. Floating tensors are averaged in the
    smallest dtype that holds all inputs and the output, rounding once; others are copied. What an
    adapter adds to its base is added in float32 or wider; a tensor of the base that none changes
    keeps its value. Constants and tied copies that not all hold are left out.

    Args:
        checkpoints: n checkpoints that agree.
        weights: n finite numbers whose sum is not 0; they are divided by their sum.
        wish: method, its parameters, dtype of the floating outputs.

    Raises:
        WeightError: number, value or sum of the weights.
        MethodError: method or parameters that do not exist.
    """
    wish.check()
    check_weights(weights, len(checkpoints))
    wanted = parse_dtype(wish.dtype) if wish.dtype else None
    places = with_bases(checkpoints)
    bases = base_indices(places)
    tables = [{tensor.name: tensor for tensor in model_tensors(c)} for c in checkpoints]
    spare = find_spare(checkpoints)
    tensors = []
    for first in (spec for spec in model_tensors(checkpoints[0]) if spec.name not in spare):
        sources = tuple(
            find_source(places, index, table[first.name], bases=bases)
            for index, table in enumerate(tables)
        )
        floating = first.dtype in FLOATS
        inputs = [source.dtype for source in sources]
        output = (wanted or promote(inputs)) if floating else first.dtype
        values = [source.value_dtype for source in sources]
        is_one = len(set(sources)) == 1  # a tensor of the base that no adapter changes
        tensors.append(
            TensorRequest(
                name=first.name,
                shape=first.shape,
                dtype=output,
                work_dtype=promote([*values, output]) if floating else first.dtype,
                method=wish.method if floating else COPY,
                weights=(1.0,) if is_one else tuple(map(float, weights)),
                normalize=bool(wish.parameters.get("normalize", True)),
                sources=sources[:1] if is_one else sources,
            )
        )
    return MergeRequest(places, tuple(tensors), tuple(map(float, weights)), method=wish.method)


def check_weights(weights: Sequence[float], num_sources: int) -> None:
    """Refuse weights that give no average.

    Raises:
        WeightError: not one finite number a source, or a sum of 0.
    """
    if len(weights) != num_sources or not all(map(math.isfinite, weights)):
        raise WeightError(f"{num_sources} finite weights are needed, found {list(weights)}")
    if abs(math.fsum(weights)) < 1e-12:
        raise WeightError(
            f"the weights {list(weights)} sum to 0, their average does not exist",
            "change a weight, or set normalize: false",
        )
