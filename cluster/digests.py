"""Digests of bytes while they are hot: CRC64NVME, nearly free, and sha256 where asked for."""

import hashlib
from collections.abc import Iterable

from awscrt import checksums

# Python integers as awscrt takes and gives them; 16 hexadecimal digits wherever they are kept.
CRC_DIGITS = 16


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
        return format_crc(self._crc)

    @property
    def sha256(self) -> str:
        """Of all bytes so far, "" where it was not asked for."""
        return self._sha256.hexdigest() if self._sha256 is not None else ""


def crc64nvme(data: memoryview | bytes | bytearray) -> str:
    """CRC64NVME of some bytes, 16 hexadecimal digits."""
    return format_crc(checksums.crc64nvme(data))


def combine_crc64nvme(pieces: Iterable[tuple[str, int]]) -> str:
    """CRC64NVME of bytes from those of consecutive pieces, (digits, size) each; nothing is read."""
    total = 0
    for digits, size in pieces:
        total = checksums.combine_crc64nvme(total, int(digits, 16), size)
    return format_crc(total)


def format_crc(value: int) -> str:
    """A CRC as 16 hexadecimal digits."""
    return f"{value:0{CRC_DIGITS}x}"
