"""What a kernel is, and the dtypes of torch by their safetensors names."""

from collections.abc import Callable, Mapping, Sequence

import torch

from fusion.plans.plan import TensorRequest

TORCH_DTYPES: Mapping[str, torch.dtype] = {
    "BOOL": torch.bool, "U8": torch.uint8, "I8": torch.int8, "U16": torch.uint16,
    "I16": torch.int16, "U32": torch.uint32, "I32": torch.int32, "U64": torch.uint64,
    "I64": torch.int64, "F16": torch.float16, "BF16": torch.bfloat16, "F32": torch.float32,
    "F64": torch.float64,
}  # fmt: skip

# kernel(request, inputs, out) -> largest magnitude before the last rounding; nan if any is nan.
Kernel = Callable[[TensorRequest, Sequence[torch.Tensor], torch.Tensor], float]
