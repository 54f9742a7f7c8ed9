"""The merge methods by name: what each takes and how it streams. No torch here."""

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class MethodSpec:
    """One merge method.

    Attributes:
        name: name of the method, as written in a recipe.
        tensor_parameters: names of parameters with one value a tensor (may be filtered or a
            gradient).
        source_parameters: names of parameters with one value for each tensor and source.
        measuring_passes: number of reads before the writing pass.
        needs_base: whether task vectors are taken from a base.
        source: paper that describes the method.
    """

    name: str
    tensor_parameters: tuple[str, ...]
    source_parameters: tuple[str, ...]
    measuring_passes: int
    needs_base: bool
    source: str


# The founding formula: a weighted average.
DEFAULT_METHOD = "linear"
METHOD_SPECS: Mapping[str, MethodSpec] = {
    DEFAULT_METHOD: MethodSpec(
        name=DEFAULT_METHOD,
        tensor_parameters=("normalize",),
        source_parameters=("weight",),
        measuring_passes=0,
        needs_base=False,
        source="Wortsman et al. 2022, Model soups, arXiv:2203.05482",
    ),
}
# Tensors of whole numbers must be equal in all sources and are copied.
COPY = "copy"
# Factors of adapters, times their weights, set side by side.
CONCATENATE = "concatenate"
