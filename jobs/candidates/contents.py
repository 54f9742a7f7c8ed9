"""What a file is that is not what its name says, and what stands where tensors should."""

import re
from collections.abc import Sequence
from dataclasses import dataclass

from jobs.errors import IncompleteError

SNIFFED_BYTES = 512
ZERO_BYTES = 64
COPY_AGAIN = "download it again, and look at what arrives"


@dataclass(frozen=True, slots=True)
class Content:
    """What a file is, in words that end "NAME is ...", and the way to the file that was meant."""

    what: str
    hint: str


GIT_LFS = Content("a Git LFS pointer, not the file itself", "fetch it: git lfs pull")
WEB_PAGE = Content(
    "a web page, saved under this name",
    "download the file itself: a login page or an error was saved in its place",
)
ANSWER = Content("the answer of a server in XML, saved under this name", COPY_AGAIN)
ZEROS = Content(
    "zeros from its first byte on: a download that made room and did not begin", COPY_AGAIN
)
GGUF = Content("a GGUF file", "give the safetensors files that it was converted from")
PACKED = "unpack it, and give the folder with the files that were in it"

STARTS: tuple[tuple[bytes, Content], ...] = (
    (b"version https://git-lfs", GIT_LFS),
    (b"<!doctype html", WEB_PAGE),
    (b"<html", WEB_PAGE),
    (b"<?xml", ANSWER),
    (b"<error", ANSWER),
    (b"\x1f\x8b", Content("packed with gzip", PACKED)),
    (b"\x28\xb5\x2f\xfd", Content("packed with zstd", PACKED)),
    (b"\xfd7zxz\x00", Content("packed with xz", PACKED)),
    (b"bzh", Content("packed with bzip2", PACKED)),
    (b"gguf", GGUF),
)

# What programs call a file that they are still writing: hub, browsers, wget, rsync.
UNFINISHED = re.compile(
    r".*\.(incomplete|part|partial|crdownload|download|tmp)|\..+\.safetensors\.\w{6}"
)
DEEPSPEED = re.compile(r"zero_to_fp32\.py|(bf16_)?(zero_pp_rank|mp_rank)_.*_states\.pt")
FOREIGN = {
    ".gguf": "a GGUF file", ".onnx": "an ONNX file", ".h5": "a file of TensorFlow",
    ".msgpack": "a file of Flax", ".ot": "a file of Rust", ".npz": "a file of NumPy",
}  # fmt: skip


def find_content(first: bytes) -> Content | None:
    """What a file is that begins like this; None where nothing is known of it."""
    start = first[:SNIFFED_BYTES].removeprefix(b"\xef\xbb\xbf").lstrip(b" \t\r\n").lower()
    for beginning, content in STARTS:
        if start.startswith(beginning):
            return content
    return ZEROS if len(first) >= ZERO_BYTES and not first.strip(b"\0") else None


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
    below = [key for key in keys if key.endswith("/config.json")]
    if below:
        return IncompleteError(
            f"{said}; {below[0]} is there, in a folder below",
            "name that folder, or move its files up",
        )
    return IncompleteError(said, "wait until it is written, or copy it there")
