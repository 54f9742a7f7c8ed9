"""CSV and TSV: separated, quoted and broken into lines as people's programs write them."""

import csv
import io
from collections.abc import Sequence
from typing import Any

from jobs.errors import DataError
from jobs.tasks.sniff import block_bytes, count_wrong, not_a_table

# A header is looked for in so much of the beginning.
HEADER_BYTES = 1 << 18
OTHER_DELIMITERS = {";": "semicolons", "|": "vertical bars"}
CONVERT = (
    'python3 -c "import csv, sys; csv.writer(sys.stdout).writerows(csv.reader(sys.stdin, '
    "delimiter='{delimiter}'))\" < {name} > new.csv"
)
OPEN_HINT = "a double quote opens a text there and is never closed: close it, or double it"
ROWS_HINT = "put every text that holds a separator or a line break into double quotes"


def parse_delimited(
    content: bytes, where: str, wanted: Sequence[str], *, is_tabbed: bool
) -> tuple[Any, dict[str, list[Any]]]:
    """A table of separated values whose first line names the columns.

    Cells may hold line breaks in double quotes. In tab-separated files a double quote is a quote
    only if all cells that begin with one are well-formed: many writers of TSV quote nothing.

    Args:
        content: bytes of the file, in UTF-8.
        where: place of the file, for messages.
        wanted: names of the columns that will be read.
        is_tabbed: whether tabs are more likely than commas.

    Returns:
        The table as pyarrow guesses its types, and the cells as written of those wanted columns
        that it takes for something else than text.

    Raises:
        DataError: other separators, or rows that do not have the columns of the header.
    """
    import pyarrow as pa

    delimiter = find_delimiter(content, where, wanted, is_tabbed=is_tabbed)
    quote = '"' if delimiter == "," or not _is_unquoted(content) else False
    typed, wrong = _parse(content, delimiter, quote)
    if wrong:
        raise _wrong_rows(where, wrong, typed.num_rows + len(wrong), content)
    guessed = [
        name
        for name in dict.fromkeys(wanted)
        if typed.column_names.count(name) == 1 and not pa.types.is_string(typed[name].type)
    ]
    if not guessed:
        return typed, {}
    texts, _ = _parse(content, delimiter, quote, as_text=guessed)
    return typed, {name: texts[name].to_pylist() for name in guessed}


def find_delimiter(content: bytes, where: str, wanted: Sequence[str], *, is_tabbed: bool) -> str:
    """A comma or a tab: what splits the first line into the wanted names, else into any.

    Raises:
        DataError: it is another separator.
    """
    usual = ("\t", ",") if is_tabbed else (",", "\t")
    splits = {mark: split_header(content, mark) for mark in (*usual, *OTHER_DELIMITERS)}
    fitting = [mark for mark, names in splits.items() if set(wanted) <= set(names)]
    many = [mark for mark, names in splits.items() if len(names) > 1]
    best: str = (fitting or many or [usual[0]])[0]
    if best in OTHER_DELIMITERS:
        raise not_a_table(
            where,
            f"its columns are separated by {OTHER_DELIMITERS[best]}; commas or tabs are read",
            CONVERT.format(delimiter=best, name=where.rpartition("/")[2]),
        )
    return best


def split_header(content: bytes, delimiter: str) -> list[str]:
    """Names of the columns, were the file separated so."""
    start = content[:HEADER_BYTES].decode("utf-8-sig", errors="replace")
    try:
        rows = csv.reader(io.StringIO(start, newline=""), delimiter=delimiter)
        return next((row for row in rows if row), [])
    except csv.Error:
        return []


def _parse(
    content: bytes, delimiter: str, quote: Any, *, as_text: Sequence[str] = ()
) -> tuple[Any, list[Any]]:
    """A table and the rows that do not fit into it; `as_text` reads these columns alone."""
    import pyarrow as pa
    from pyarrow import csv as arrow_csv

    wrong: list[Any] = []

    def skip(row: Any) -> str:
        wrong.append(row)
        return "skip"

    table = arrow_csv.read_csv(
        pa.BufferReader(content),
        arrow_csv.ReadOptions(use_threads=False, block_size=block_bytes(content)),
        arrow_csv.ParseOptions(
            delimiter=delimiter,
            quote_char=quote,
            newlines_in_values=bool(quote),
            invalid_row_handler=skip,
        ),
        arrow_csv.ConvertOptions(
            include_columns=list(as_text) or None,
            column_types=dict.fromkeys(as_text, pa.string()),
        ),
    )
    return table, wrong


def _is_unquoted(content: bytes) -> bool:
    """Whether the double quotes of a tab-separated file are plain characters."""
    if b'"' not in content:
        return True
    lines = [line for line in content.replace(b"\r\n", b"\n").split(b"\n") if line]
    if len({line.count(b"\t") for line in lines}) > 1:
        return False  # tabs or line breaks stand inside quotes
    starting = (cell for line in lines for cell in line.split(b"\t") if cell.startswith(b'"'))
    return not all(map(_is_well_quoted, starting))


def _is_well_quoted(cell: bytes) -> bool:
    inside = cell[1:-1].replace(b'""', b"")
    return len(cell) > 1 and cell.endswith(b'"') and b'"' not in inside


def _wrong_rows(where: str, wrong: Sequence[Any], total: int, content: bytes) -> DataError:
    # The first row of the file is the header, and rows below it count from 0.
    numbers = [row.number - 2 for row in wrong]
    first = wrong[0]
    # Rows are lines as far as wrong ones stand on the lines of their numbers.
    lines = content.decode("utf-8-sig").split("\n")
    begins = [row.text.split("\n")[0].rstrip("\r") for row in wrong[:3]]
    are_lines = begins == [lines[row.number - 1].rstrip("\r") for row in wrong[:3]]
    shown = count_wrong(numbers, total, first_line=2 if are_lines else 0)
    is_open = first.text.count('"') % 2 == 1 and "\n" in first.text
    return not_a_table(
        where,
        f"the header has {first.expected_columns} columns, {first.actual_columns} stand in row "
        f"{shown}: {first.text!r:.120}",
        OPEN_HINT if is_open else ROWS_HINT,
    )
