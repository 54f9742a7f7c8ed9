"""What stands in a folder of a candidate that has no .safetensors file, for the one who looks."""

import re
from collections.abc import Sequence

from jobs.candidates.side_files import CONFIG
from jobs.errors import IncompleteError

# What programs call a file that they are still writing: hub, browsers, wget, rsync.
UNFINISHED = re.compile(
    r".*\.(incomplete|part|partial|crdownload|download|tmp)|\..+\.safetensors\.\w{6}"
)
DEEPSPEED = re.compile(r"zero_to_fp32\.py|(bf16_)?(zero_pp_rank|mp_rank)_.*_states\.pt")
FOREIGN = {
    ".gguf": "a GGUF file", ".onnx": "an ONNX file", ".h5": "a file of TensorFlow",
    ".msgpack": "a file of Flax", ".ot": "a file of Rust", ".npz": "a file of NumPy",
}  # fmt: skip


def lacking_error(keys: Sequence[str], *, name: str) -> IncompleteError:
    """The error of a candidate without a .safetensors file, which names what is there instead.

    Args:
        keys: all files of its folder, those in folders as well.
        name: name of the candidate.
    """
    said, ends = f"{name} has no .safetensors file", [key.rpartition("/")[2] for key in keys]
    unfinished = next((key for key in keys if UNFINISHED.fullmatch(key.rpartition("/")[2])), None)
    if unfinished is not None:
        return IncompleteError(
            f"{said}; {unfinished} is there, an unfinished copy",
            "wait until it is written, or copy it again",
        )
    if any(map(DEEPSPEED.fullmatch, ends)):
        return IncompleteError(
            f"{said}; a training checkpoint of DeepSpeed is there, in pieces",
            "make whole files of it: python zero_to_fp32.py . . --safe_serialization",
        )
    for key in keys:
        what = next((what for end, what in FOREIGN.items() if key.lower().endswith(end)), None)
        if what is not None:
            return IncompleteError(
                f"{said}; {key} is there, {what}, which is not read",
                "give the safetensors files that it was converted from",
            )
    below = [key for key in keys if key.endswith(f"/{CONFIG}")]
    if below:
        return IncompleteError(
            f"{said}; {below[0]} is there, in a folder below",
            "name that folder, or move its files up",
        )
    return IncompleteError(said, "wait until it is written, or copy it there")
