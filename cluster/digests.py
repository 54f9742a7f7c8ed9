"""Digests of bytes while they are hot: CRCs, nearly free, and sha256 where asked for."""

import hashlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Literal

from awscrt import checksums

CrcKind = Literal["crc32", "crc32c", "crc64nvme"]
# Python integers as awscrt takes and gives them; hexadecimal digits wherever they are kept.
CRC_DIGITS: dict[CrcKind, int] = {"crc32": 8, "crc32c": 8, "crc64nvme": 16}
COMPUTE = {
    "crc32": checksums.crc32,
    "crc32c": checksums.crc32c,
    "crc64nvme": checksums.crc64nvme,
}
COMBINE = {
    "crc32": checksums.combine_crc32,
    "crc32c": checksums.combine_crc32c,
    "crc64nvme": checksums.combine_crc64nvme,
}


class RunningDigest:
    """The digests of bytes that come piece by piece."""

    def __init__(self, *, with_sha256: bool) -> None:
        self.size = 0
        self._crc = 0
        self._sha256 = hashlib.sha256() if with_sha256 else None

    def update(self, data: memoryview | bytes | bytearray) -> None:
        """Take the next bytes."""
        self.size += len(data)
        self._crc = checksums.crc64nvme(data, self._crc)
        if self._sha256 is not None:
            self._sha256.update(data)

    @property
    def crc64nvme(self) -> str:
        """Of all bytes so far, 16 hexadecimal digits."""
        return format_crc("crc64nvme", self._crc)

    @property
    def sha256(self) -> str:
        """Of all bytes so far, "" where it was not asked for."""
        return self._sha256.hexdigest() if self._sha256 is not None else ""


@dataclass(frozen=True, slots=True)
class KnownCrc:
    """What is known of the bytes of an object before they are read.

    Attributes:
        kind: kind of the CRC.
        digits: the CRC, as hexadecimal digits.
        parts: how the object was cut when it was written, as (number of parts, bytes of each),
            neighbours of one size together; `digits` is then the CRC of the parts' CRCs, written
            one after the other, and a part's own need not be known. () where `digits` is that of
            the bytes themselves.
    """

    kind: CrcKind
    digits: str
    parts: tuple[tuple[int, int], ...] = ()

    @property
    def name(self) -> str:
        """What messages call it."""
        return f"{self.kind.upper()} of {self.num_parts} parts" if self.parts else self.kind.upper()

    @property
    def num_parts(self) -> int:
        """Number of parts; 0 where it is of the bytes themselves."""
        return sum(count for count, _ in self.parts)

    def cut(self, start: int, end: int) -> Iterator[tuple[int, int]]:
        """The bytes from `start` to `end` as ranges that keep within the parts."""
        while start < end:
            border = min(end, self._border_after(start, otherwise=end))
            yield start, border
            start = border

    def is_border(self, place: int) -> bool:
        """Whether a part begins or ends between a byte and the one before it."""
        return self._border_after(place - 1, otherwise=-1) == place

    def of_pieces(self, pieces: Iterable[tuple[str, int]]) -> str:
        """What the store would keep of an object.

        Args:
            pieces: (CRC of this kind, bytes) of consecutive ranges from byte 0 to the object's end,
                each within one part.
        """
        written, part, place = b"", list[tuple[str, int]](), 0
        for digits, size in pieces:
            part.append((digits, size))
            place += size
            if self.is_border(place):
                written += bytes.fromhex(combine_crcs(self.kind, part))
                part.clear()
        return compute_crc(self.kind, written) if self.parts else combine_crcs(self.kind, part)

    def _border_after(self, place: int, *, otherwise: int) -> int:
        """Where the part of a byte ends; `otherwise` where there are no parts."""
        first = 0
        for count, size in self.parts:
            if place < first + count * size:
                return place + size - (place - first) % size
            first += count * size
        return otherwise


def compute_crc(kind: CrcKind, data: memoryview | bytes | bytearray) -> str:
    """CRC of some bytes, as hexadecimal digits."""
    return format_crc(kind, COMPUTE[kind](data))


def combine_crcs(kind: CrcKind, pieces: Iterable[tuple[str, int]]) -> str:
    """CRC of bytes from those of consecutive pieces, (digits, size) each; nothing is read."""
    total = 0
    for digits, size in pieces:
        total = COMBINE[kind](total, int(digits, 16), size)
    return format_crc(kind, total)


def crc64nvme(data: memoryview | bytes | bytearray) -> str:
    """CRC64NVME of some bytes, 16 hexadecimal digits."""
    return compute_crc("crc64nvme", data)


def combine_crc64nvme(pieces: Iterable[tuple[str, int]]) -> str:
    """CRC64NVME of bytes from those of consecutive pieces, (digits, size) each."""
    return combine_crcs("crc64nvme", pieces)


def format_crc(kind: CrcKind, value: int) -> str:
    """A CRC as hexadecimal digits."""
    return f"{value:0{CRC_DIGITS[kind]}x}"
