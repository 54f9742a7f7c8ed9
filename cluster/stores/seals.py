"""Etags that tell an overwrite which kept size and time: a file's change time, and some bytes.

The etag of a local file is its modification time, inode and size; tools can set the time back. The
change time (ctime) cannot be set, but a new mode, owner or hard link changes it too. So a sealed
etag has both it and a checksum over blocks of the file, which decides where the time alone differs.
"""

from collections.abc import Iterator

from cluster.digests import crc64nvme
from cluster.stores.store import Reader

MARK = "~"  # no ETag of S3 has it
# Files up to this size are read whole; of others this much from the beginning, and blocks.
WHOLE_BYTES = 64 << 10
BLOCK_BYTES = 4 << 10
NUM_BLOCKS = 8


def seal(etag: str, changed_ns: int, checksum: str) -> str:
    """The etag with the change time in nanoseconds and the checksum of `find_checksum`."""
    return MARK.join([etag, f"{changed_ns:x}", checksum])


def split_seal(etag: str) -> tuple[str, int | None, str]:
    """Etag, change time and checksum; (etag, None, "") of one that is not sealed."""
    parts = etag.split(MARK)
    if len(parts) != 3:
        return etag, None, ""
    return parts[0], int(parts[1], 16), parts[2]


def find_checksum(reader: Reader, size: int) -> str:
    """CRC64NVME over blocks of an open object of `size` bytes, 16 hexadecimal digits."""
    content = bytearray()
    for start, count in _blocks(size):
        block = bytearray(count)
        reader.read_into(memoryview(block), start=start)
        content += block
    return crc64nvme(memoryview(content))


def _blocks(size: int) -> Iterator[tuple[int, int]]:
    """First byte and size of each: the beginning, some spread over the rest, the end."""
    first = min(size, WHOLE_BYTES)
    yield 0, first
    rest = size - first
    if rest:
        count = min(BLOCK_BYTES, rest)
        for number in range(NUM_BLOCKS):
            yield first + (rest - count) * number // (NUM_BLOCKS - 1), count
