"""What a file is that is not what its name says, by its first bytes."""

from dataclasses import dataclass

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


def find_content(first: bytes) -> Content | None:
    """What a file is that begins like this; None where nothing is known of it."""
    start = first[:SNIFFED_BYTES].removeprefix(b"\xef\xbb\xbf").lstrip(b" \t\r\n").lower()
    for beginning, content in STARTS:
        if start.startswith(beginning):
            return content
    return ZEROS if len(first) >= ZERO_BYTES and not first.strip(b"\0") else None
