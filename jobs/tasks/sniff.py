"""What a data file is, by its first bytes: unpacked where it is packed, named where it is no table.

A name may lie: exports are renamed, downloads end early, a pointer stands where a file should.
"""

import codecs
import json
from typing import Any

from jobs.errors import DataError

PACKED = {b"\x1f\x8b": "gzip", b"\x28\xb5\x2f\xfd": "zstd", b"BZh": "bz2"}
PARQUET = b"PAR1"
AS_PARQUET = "write it as Parquet, CSV, TSV or JSON Lines; nothing was evaluated"
# What begins so is no table that is read here; with what to do about it.
FOREIGN: tuple[tuple[bytes, str, str], ...] = (
    (b"version https://git-lfs", "a Git LFS pointer, not the data", "git lfs pull brings the data"),
    (b"PK\x03\x04", "a ZIP archive or a spreadsheet", "unzip it, or save the sheet as CSV (UTF-8)"),
    (b"\xd0\xcf\x11\xe0", "an old spreadsheet (.xls)", "save the sheet as CSV (UTF-8)"),
    (b"ARROW1", "an Arrow file", "pyarrow.ipc.open_file(F).read_all() is a table; " + AS_PARQUET),
    (
        b"\xff\xff\xff\xff",
        "an Arrow stream",
        "datasets.Dataset.from_file(F).to_parquet(G) mends it",
    ),
    (
        b"\xfd7zXZ\x00",
        "packed by xz",
        "xz -d unpacks it; gzip, zstd and bzip2 are read as they are",
    ),
    (b"7z\xbc\xaf", "a 7z archive", "unpack it"),
    (b"SQLite format 3", "an SQLite database", "export the table as CSV"),
    (b"Obj\x01", "an Avro file", AS_PARQUET),
    (b"%PDF", "a PDF", AS_PARQUET),
    (b"\x93NUMPY", "a NumPy array", AS_PARQUET),
    (b"\x89HDF", "an HDF5 file", AS_PARQUET),
    (b"\x80\x02", "a pickle, which is never opened", AS_PARQUET),
    (b"\x80\x03", "a pickle, which is never opened", AS_PARQUET),
    (b"\x80\x04", "a pickle, which is never opened", AS_PARQUET),
    (b"\x80\x05", "a pickle, which is never opened", AS_PARQUET),
)
WIDE = (b"\xff\xfe", b"\xfe\xff")  # how texts in UTF-16 begin
PAGES = (b"<!doctype", b"<html", b"<?xml")
TAR_AT = 257
PIECE_BYTES = 1 << 20
# What unpacks to more than both is no table of texts: those shrink to a tenth or so.
LARGEST_RATIO, LARGEST_UNPACKED = 200, 256 << 20
# pyarrow reads blocks of at most 2 GiB, and a row that is longer than one not at all.
SMALLEST_BLOCK, LARGEST_BLOCK = 1 << 20, 1 << 30


def unpack(content: bytes, where: str) -> bytes:
    """The bytes of a file, without the packing by gzip, zstd or bzip2 that it may have.

    Args:
        content: bytes of the file.
        where: place of the file, for messages.

    Raises:
        DataError: the packing is damaged, ends early, or hides more than a table would be.
    """
    codec = next((name for begin, name in PACKED.items() if content.startswith(begin)), None)
    if codec is None:
        return content
    import pyarrow as pa

    allowed = max(LARGEST_UNPACKED, LARGEST_RATIO * len(content))
    pieces: list[bytes] = []
    try:
        with pa.CompressedInputStream(pa.BufferReader(content), codec) as stream:
            while piece := stream.read(PIECE_BYTES):
                pieces.append(piece)
                allowed -= len(piece)
                if allowed < 0:
                    raise DataError(
                        f"{where}: {len(content):,} bytes of {codec} unpack to more than "
                        f"{sum(map(len, pieces)):,}; nothing was evaluated",
                        "a table of texts never shrinks so much: look at the file",
                    )
    except (pa.ArrowException, OSError) as error:
        reason = str(error).splitlines()[0]
        raise DataError(
            f"{where} is packed by {codec} and cannot be unpacked: {reason:.120}; nothing was "
            "evaluated",
            "bring it again: it was cut off or damaged on its way",
        ) from None
    return b"".join(pieces)


def check_known(content: bytes, where: str) -> None:
    """Refuse what is no table by its first bytes.

    Raises:
        DataError: says what it is, and what to do.
    """
    if not content.strip():
        raise not_a_table(where, "it is empty", "bring the data again")
    for begin, what, hint in FOREIGN:
        if content.startswith(begin):
            raise not_a_table(where, f"it is {what}", hint)
    if content[TAR_AT : TAR_AT + 5] == b"ustar":
        raise not_a_table(where, "it is a tar archive", "unpack it and name the file or its folder")
    if any(content.startswith(begin) for begin in PACKED):
        raise not_a_table(where, "it is packed twice", "unpack it once")
    if content.startswith(PARQUET) and not content.endswith(PARQUET):
        raise not_a_table(
            where, "it begins as Parquet and does not end so: it was cut off", "bring it again"
        )


def check_text(content: bytes, where: str) -> None:
    """Refuse what is no text in UTF-8, or is the text of a web page.

    Raises:
        DataError: names the encoding where it can be told, else the first byte that is wrong.
    """
    start = content[:64].lstrip(b"\xef\xbb\xbf \t\r\n").lower()
    if start.startswith(PAGES):
        raise not_a_table(where, "it is a web page", "bring the file itself, not its page")
    if content.startswith(WIDE) or _is_wide(content):
        raise not_a_table(
            where, "it is text in UTF-16", f"iconv -f UTF-16 -t UTF-8 {_name(where)} > new.csv"
        )
    wrong = find_wrong_byte(content)
    if wrong is None:
        return
    line = content.count(b"\n", 0, wrong) + 1
    begin = content.rfind(b"\n", 0, wrong) + 1
    shown = content[max(begin, wrong - 20) : wrong + 20].partition(b"\n")[0].decode("latin-1")
    raise not_a_table(
        where,
        f"it is not in UTF-8: line {line} has the byte 0x{content[wrong]:02X}; as latin-1 it reads "
        f"{json.dumps(shown, ensure_ascii=False)}",
        f"if that reads well: iconv -f WINDOWS-1252 -t UTF-8 {_name(where)} > new.csv",
    )


def find_wrong_byte(content: bytes) -> int | None:
    """Where bytes cease to be UTF-8; None where they do not."""
    decoder = codecs.getincrementaldecoder("utf-8")()
    for start in range(0, max(len(content), 1), PIECE_BYTES):
        piece = content[start : start + PIECE_BYTES]
        is_last = start + PIECE_BYTES >= len(content)
        try:
            decoder.decode(piece, final=is_last)
        except UnicodeDecodeError as error:
            return start + len(piece) - len(error.object) + error.start
    return None


def block_bytes(content: bytes) -> int:
    """Size of pyarrow's blocks with which a file is read in one, as far as that can be."""
    return min(max(len(content), SMALLEST_BLOCK), LARGEST_BLOCK)


def not_a_table(where: str, reason: str, hint: str) -> DataError:
    """The error of a file that holds no table."""
    return DataError(
        f"{where} is not a table that can be read: {reason}. Nothing was evaluated.", hint
    )


def count_wrong(rows: list[int], total: int, *, place: Any = str, first_line: int = 0) -> str:
    """Which rows are wrong: the first three, and how many of how many where there are more.

    Args:
        rows: numbers of the wrong rows, at least one.
        total: number of all rows.
        place: what a row's number is called.
        first_line: number of the line of row 0, where each row is a line of its file; else 0.
    """
    shown = ", ".join(str(place(row)) for row in rows[:3])
    if len(rows) > 1:
        shown += f" ({len(rows):,} of {total:,} rows)"
    lines = ", ".join(f"line {row + first_line}" for row in rows[:3])
    return f"{shown}, {lines}" if first_line else shown


def _is_wide(content: bytes) -> bool:
    """Whether every second byte of the beginning is zero."""
    start = content[:64]
    return len(start) > 3 and not (any(start[1::2]) and any(start[::2]))


def _name(where: str) -> str:
    return where.rpartition("/")[2]
