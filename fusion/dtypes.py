"""The dtypes of safetensors by name: sizes, kinds, promotion. No torch here."""

import math
from collections.abc import Iterable, Mapping, Sequence

ITEM_BYTES: Mapping[str, int] = {
    "BOOL": 1, "U8": 1, "I8": 1, "F8_E4M3": 1, "F8_E5M2": 1, "F8_E8M0": 1,
    "F8_E4M3FNUZ": 1, "F8_E5M2FNUZ": 1,
    "U16": 2, "I16": 2, "F16": 2, "BF16": 2,
    "U32": 4, "I32": 4, "F32": 4,
    "U64": 8, "I64": 8, "F64": 8, "C64": 8,
}  # fmt: skip
# Several of these share a byte; they hold codes, which are read but never averaged.
SUB_BYTE_BITS: Mapping[str, int] = {"F4": 4, "F6_E2M3": 6, "F6_E3M2": 6}
FLOATS = ("F64", "F32", "F16", "BF16")
WHOLE = ("BOOL", "U8", "I8", "U16", "I16", "U32", "I32", "U64", "I64")
TORCH_NAMES: Mapping[str, str] = {
    "BOOL": "bool", "U8": "uint8", "I8": "int8", "U16": "uint16", "I16": "int16",
    "U32": "uint32", "I32": "int32", "U64": "uint64", "I64": "int64",
    "F16": "float16", "BF16": "bfloat16", "F32": "float32", "F64": "float64",
}  # fmt: skip


def tensor_bytes(dtype: str, shape: Sequence[int]) -> int:
    """Bytes that a tensor takes in a file.

    Raises:
        ValueError: an unknown dtype, or sub-byte elements that do not fill whole bytes.
    """
    if dtype in ITEM_BYTES:
        return ITEM_BYTES[dtype] * math.prod(shape)
    if dtype not in SUB_BYTE_BITS:
        raise ValueError(f"unknown dtype {dtype!r:.80}")
    size, rest = divmod(SUB_BYTE_BITS[dtype] * math.prod(shape), 8)
    if rest:
        raise ValueError(f"{dtype} {list(shape)} does not fill whole bytes")
    return size


# What people call them elsewhere.
SHORT = {"bf16": "bfloat16", "fp16": "float16", "half": "float16", "fp32": "float32",
         "float": "float32", "fp64": "float64", "double": "float64"}  # fmt: skip


def parse_dtype(name: str) -> str:
    """The safetensors name of a floating dtype: "bfloat16", "torch.bfloat16" or "BF16" -> "BF16".

    Raises:
        ValueError: not float16, bfloat16, float32 or float64.
    """
    plain = name.removeprefix("torch.")
    for ours in FLOATS:
        if plain in (ours, TORCH_NAMES[ours]):
            return ours
    meant = f"; did you mean {SHORT[plain]!r}?" if plain in SHORT else ""
    raise ValueError(f"{name!r} is not one of float16, bfloat16, float32, float64{meant}")


def promote(names: Iterable[str]) -> str:
    """The smallest floating dtype that holds all of `names` exactly: BF16 with F16 is F32.

    Raises:
        ValueError: no name, or one that is not a floating dtype.
    """
    kinds = set(names)
    if not kinds or not kinds <= set(FLOATS):
        raise ValueError(f"cannot promote {sorted(kinds)}")
    if len(kinds) == 1:
        return kinds.pop()
    return "F64" if "F64" in kinds else "F32"
