"""What is asked of a model: lines of stdin or rows of a file, each in its place."""

from collections.abc import Iterator, Sequence
from typing import TextIO

from cluster.errors import NotFoundError
from cluster.stores.open_store import open_file
from jobs.errors import DataError, UsageError
from jobs.tasks.data import check_column
from jobs.tasks.sniff import WIDE, count_wrong
from jobs.tasks.table import parse_table

ASK_WITH = "give --text or --input FILE, or lines on stdin"


def read_lines(stream: TextIO) -> Iterator[str | None]:
    """Lines without blanks around them, as they come; None for a blank line, which stays a row.

    Raises:
        DataError: a line that is not in UTF-8, whatever the locale is.
    """
    lines: Iterator[str | bytes] = iter(getattr(stream, "buffer", None) or stream)
    for number, line in enumerate(lines, 1):
        yield (line if isinstance(line, str) else _decode(line, number)).strip() or None


def read_questions(uri: str, columns: Sequence[str]) -> list[str | None]:
    """A text a row of a file of any format that evaluation data may have; None for an empty cell.

    Args:
        uri: place of the file.
        columns: names of the columns, of which a text is made: more than one are joined by tabs,
            as models of two texts are asked.

    Raises:
        DataError: no such file, not a table, no such column, or cells that are no texts.
    """
    store, name = open_file(uri)
    try:
        content = store.read(name)
    except NotFoundError:
        raise DataError(f"--input {uri} does not exist", "check the path or URI") from None
    table = parse_table(content, uri, tuple(columns))
    for column in columns:
        check_column(table, uri, column)
    cells = [table.written(column) for column in columns]
    rows = list(zip(*cells, strict=True))
    wrong = [
        row for row, found in enumerate(rows) if any(not isinstance(c, str | None) for c in found)
    ]
    if wrong:
        raise DataError(
            f"{uri}: column {columns[0]!r} is not text in row {count_wrong(wrong, len(rows))}",
            "name the column of the texts with --column",
        )
    return [_join(found) for found in rows]


def check_texts(texts: Sequence[str]) -> tuple[str, ...]:
    """Texts of the command line, which were bytes before.

    Raises:
        UsageError: one is not in UTF-8.
    """
    for text in texts:
        try:
            text.encode()
        except UnicodeEncodeError:
            raise UsageError(
                f"--text {text.encode(errors='replace').decode()!r:.80} is not in UTF-8"
            ) from None
    return tuple(texts)


def _join(cells: Sequence[str | None]) -> str | None:
    texts = [(cell or "").strip() for cell in cells]
    return "\t".join(texts) if any(texts) else None


def _decode(line: bytes, number: int) -> str:
    try:
        return line.decode("utf-8-sig" if number == 1 else "utf-8")
    except UnicodeDecodeError as error:
        is_wide = number == 1 and line.startswith(WIDE)
        what = "is text in UTF-16" if is_wide else f"has the byte 0x{line[error.start]:02X}"
        raise DataError(
            f"line {number} of stdin {what}: it is not UTF-8",
            "send it through iconv -f UTF-16 -t UTF-8 first"
            if is_wide
            else "send it through iconv -f WINDOWS-1252 -t UTF-8 first, if it is from Windows",
        ) from None
