"""What is wanted of a merge, as the door said it: method, parameters, dtype, kind of output."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

from fusion.errors import MethodError
from fusion.plans.method_specs import DEFAULT_METHOD, METHOD_SPECS


@dataclass(frozen=True, slots=True)
class MergeWish:
    """One value from the recipe to request, plan, manifest and report.

    Attributes:
        method: a name of METHOD_SPECS.
        parameters: parameters of the method by name, one value for all tensors.
        dtype: dtype of the floating outputs, such as "bfloat16"; None keeps that of the inputs.
        output: whether to write a whole model, or one adapter of the base that all candidates
            adapt.
    """

    method: str = DEFAULT_METHOD
    parameters: Mapping[str, object] = field(default_factory=dict)
    dtype: str | None = None
    output: Literal["model", "adapter"] = "model"

    def check(self) -> None:
        """Refuse what no method takes.

        Raises:
            MethodError: a method that does not exist, or a parameter that it does not have.
        """
        if self.method not in METHOD_SPECS:
            raise MethodError(
                f"{self.method} is not a merge method; supported: {', '.join(METHOD_SPECS)}"
            )
        known = METHOD_SPECS[self.method].tensor_parameters
        strange = [name for name in self.parameters if name not in known]
        if strange:
            raise MethodError(
                f"{self.method} has no parameter {strange[0]!r}; it has {', '.join(known)}"
            )
