"""CRCs that an S3 server keeps of an object: of its bytes, or of the CRCs of its parts.

A server that keeps a CRC of parts (COMPOSITE) tells it with the whole object; a part's own is told
by few. It is enough to know where the parts end, which a HEAD of a part tells, without a right
that reading does not need.
"""

import base64
from collections.abc import Mapping
from itertools import groupby
from typing import Any

from cluster.digests import CrcKind, KnownCrc
from cluster.stores.s3.connection import Bucket

# Cheapest to compute first; servers keep one of them.
FIELDS: dict[CrcKind, str] = {
    "crc32c": "ChecksumCRC32C",
    "crc64nvme": "ChecksumCRC64NVME",
    "crc32": "ChecksumCRC32",
}


def find_crc(
    store: Bucket, key: str, pin: Mapping[str, str], *, every_part: bool
) -> KnownCrc | None:
    """As `Store.find_crc`, of an object under the condition of a read."""
    whole = _head(store, key, pin)
    for kind, field in FIELDS.items():
        value, _, num_parts = whole.get(field, "").partition("-")
        if not value:
            continue
        digits = base64.b64decode(value).hex()
        if whole.get("ChecksumType") != "COMPOSITE" and not num_parts:
            return KnownCrc(kind, digits)
        sizes = _part_sizes(store, key, pin, size=whole["ContentLength"], every_part=every_part)
        parts = tuple((len(list(same)), size) for size, same in groupby(sizes))
        return KnownCrc(kind, digits, parts) if parts else None
    return None


def _part_sizes(
    store: Bucket, key: str, pin: Mapping[str, str], *, size: int, every_part: bool
) -> list[int]:
    """Bytes of each part of an object of `size` bytes; none where the server does not tell."""
    first = _head(store, key, pin, PartNumber=1)
    count, part_size = int(first.get("PartsCount", 0)), int(first["ContentLength"])
    if count == 0:
        return []
    last_size = part_size if count == 1 else _size_of_part(store, key, pin, count)
    sizes = [part_size] * (count - 1) + [last_size]
    if sum(sizes) != size or every_part:
        middle = [_size_of_part(store, key, pin, number) for number in range(2, count)]
        sizes = [part_size, *middle, last_size][:count]
    return sizes if sum(sizes) == size and min(sizes) > 0 else []


def _size_of_part(store: Bucket, key: str, pin: Mapping[str, str], number: int) -> int:
    return int(_head(store, key, pin, PartNumber=number)["ContentLength"])


def _head(store: Bucket, key: str, pin: Mapping[str, str], **part: int) -> Mapping[str, Any]:
    with store.asking(key) as client:
        answer: Mapping[str, Any] = client.head_object(
            **store.address(key), **pin, **part, ChecksumMode="ENABLED"
        )
    return answer
