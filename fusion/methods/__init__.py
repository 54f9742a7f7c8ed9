"""Kernels: n tensors of one shape and a weight each -> one tensor, in blocks that stay in cache."""

from fusion.methods.contract import TORCH_DTYPES, Kernel
from fusion.methods.linear import weighted_sum

METHODS: dict[str, Kernel] = {"linear": weighted_sum}

__all__ = ["METHODS", "TORCH_DTYPES", "Kernel"]
