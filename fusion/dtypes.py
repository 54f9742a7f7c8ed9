"""The dtypes of safetensors by name: sizes, kinds, promotion. No torch here."""

from collections.abc import Iterable, Mapping

ITEM_BYTES: Mapping[str, int] = {
    "BOOL": 1, "U8": 1, "I8": 1, "F8_E4M3": 1, "F8_E5M2": 1, "F8_E8M0": 1,
    "F8_E4M3FNUZ": 1, "F8_E5M2FNUZ": 1,
    "U16": 2, "I16": 2, "F16": 2, "BF16": 2,
    "U32": 4, "I32": 4, "F32": 4,
    "U64": 8, "I64": 8, "F64": 8, "C64": 8,
}  # fmt: skip
FLOATS = ("F64", "F32", "F16", "BF16")
WHOLE = ("BOOL", "U8", "I8", "U16", "I16", "U32", "I32", "U64", "I64")
TORCH_NAMES: Mapping[str, str] = {
    "BOOL": "bool", "U8": "uint8", "I8": "int8", "U16": "uint16", "I16": "int16",
    "U32": "uint32", "I32": "int32", "U64": "uint64", "I64": "int64",
    "F16": "float16", "BF16": "bfloat16", "F32": "float32", "F64": "float64",
}  # fmt: skip


def parse_dtype(name: str) -> str:
    """The safetensors name of a floating dtype: "bfloat16", "torch.bfloat16" or "BF16" -> "BF16".

    Raises:
        ValueError: not float16, bfloat16, float32 or float64.
    """
    plain = name.removeprefix("torch.")
    for ours in FLOATS:
        if plain in (ours, TORCH_NAMES[ours]):
            return ours
    raise ValueError(f"{name!r} is not one of float16, bfloat16, float32, float64")


def promote(names: Iterable[str]) -> str:
    """The smallest floating dtype that holds all of `names` exactly: BF16 with F16 is F32."""
    kinds = set(names)
    if not kinds or not kinds <= set(FLOATS):
        raise ValueError(f"cannot promote {sorted(kinds)}")
    if len(kinds) == 1:
        return kinds.pop()
    return "F64" if "F64" in kinds else "F32"
