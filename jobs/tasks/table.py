"""A table as a data file has it, whatever its format: read by what the bytes are."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from jobs.outputs.parquet_file import read_parquet
from jobs.tasks.delimited import parse_delimited, split_header
from jobs.tasks.json_rows import parse_json
from jobs.tasks.sniff import PARQUET, check_known, check_text, not_a_table, unpack

HINT = "set task.columns, or fix the data; nothing was evaluated"
PACKED_ENDINGS = (".gz", ".zst", ".bz2")
TABBED = (".tsv", ".tab")
DELIMITED = (*TABBED, ".csv", ".txt")
SHOWN_BYTES = 24


@dataclass(frozen=True, slots=True, eq=False)
class Table:
    """n rows of one file or of several.

    Attributes:
        names: names of the columns, in their order; one may stand twice.
        num_rows: number of rows.
        cells: gives the n values of a column, as the format has them: of text formats as pyarrow
            guesses their type, which ids of examples were always made from.
        texts: values as they are written, of the wanted columns for which that is not the same.
        parts: (name, number of rows) of each file, where there are several.
        first_line: number of the line of row 0, where each row is a line of the one file; else 0.
    """

    names: tuple[str, ...]
    num_rows: int
    cells: Callable[[str], list[Any]]
    texts: Mapping[str, list[Any]] = field(default_factory=dict)
    parts: tuple[tuple[str, int], ...] = ()
    first_line: int = 0

    def written(self, name: str) -> list[Any]:
        """Values of a column as they stand in the file."""
        return self.texts[name] if name in self.texts else self.cells(name)

    def place(self, row: int) -> str:
        """What a row is called in messages: its number from 0, and its file if there are more."""
        for name, count in self.parts:
            if row < count:
                return f"{row} of {name}"
            row -= count
        return str(row)


def parse_table(content: bytes, where: str, wanted: Sequence[str]) -> Table:
    """The table in the bytes of one file: Parquet, CSV, TSV, JSON Lines or a JSON array.

    CSV, TSV and JSON may be packed by gzip, zstd or bzip2. The name of a file decides nothing that
    its bytes can tell.

    Args:
        content: bytes of the file.
        where: place of the file, for messages.
        wanted: names of the columns that will be read.

    Raises:
        DataError: says what the file is, and what is wrong with it.
    """
    import pyarrow as pa

    plain = unpack(content, where)
    check_known(plain, where)
    try:
        if plain.startswith(PARQUET):
            return _of_arrow(read_parquet(pa.BufferReader(plain)), {})
        check_text(plain, where)
        return _parse_text(plain, where, wanted)
    except (pa.ArrowException, OSError) as error:
        raise not_a_table(where, f"{str(error).splitlines()[0]:.200}", HINT) from None


def join_tables(tables: Sequence[tuple[str, Table]], wanted: Sequence[str]) -> Table:
    """Tables below each other; only wanted columns that all of them have are kept.

    Args:
        tables: (name, table) of each file, at least one.
        wanted: names of the columns that will be read.
    """
    if len(tables) == 1:
        return tables[0][1]
    own = [table for _, table in tables]
    names = tuple(name for name in own[0].names if all(name in table.names for table in own))
    return Table(
        names=names,
        num_rows=sum(table.num_rows for table in own),
        cells=lambda name: [value for table in own for value in table.cells(name)],
        texts={
            name: [value for table in own for value in table.written(name)]
            for name in wanted
            if name in names and any(name in table.texts for table in own)
        },
        parts=tuple((name, table.num_rows) for name, table in tables),
    )


def plain_ending(name: str) -> str:
    """The ending of a file's name in lower case, below that of its packing: .csv of A.CSV.gz."""
    lowered = name.lower()
    for ending in PACKED_ENDINGS:
        lowered = lowered.removesuffix(ending)
    stem, dot, last = lowered.rpartition("/")[2].rpartition(".")
    return f".{last}" if dot and stem else ""


def _parse_text(content: bytes, where: str, wanted: Sequence[str]) -> Table:
    ending = plain_ending(where)
    is_json = content.lstrip(b"\xef\xbb\xbf \t\r\n")[:1] in (b"{", b"[")
    if is_json and not (ending in DELIMITED and set(wanted) <= set(split_header(content, ","))):
        rows, typed, texts = parse_json(content, where, wanted)
        found = _of_arrow(typed, texts) if typed is not None else _of_rows(rows)
        return _number_lines(found, content, first_line=1)
    if ending in (".parquet", ".json", ".jsonl", ".ndjson"):
        begin = content[:SHOWN_BYTES].decode(errors="replace")
        raise not_a_table(
            where,
            f"its name ends in {ending}, and it begins with {begin!r}",
            "if it is CSV or TSV, give it a name that ends so; else bring the data again",
        )
    found = _of_arrow(*parse_delimited(content, where, wanted, is_tabbed=ending in TABBED))
    return _number_lines(found, content, first_line=2)


def _number_lines(table: Table, content: bytes, *, first_line: int) -> Table:
    """With the line of row 0, if every row is one line and none is empty."""
    lines = content.removesuffix(b"\n").split(b"\n")
    is_even = len(lines) == table.num_rows + first_line - 1 and all(map(bytes.strip, lines))
    return replace(table, first_line=first_line) if is_even else table


def _of_arrow(typed: Any, texts: Mapping[str, list[Any]]) -> Table:
    return Table(
        names=tuple(typed.column_names),
        num_rows=typed.num_rows,
        cells=lambda name: list(typed.column(name).to_pylist()),
        texts=texts,
    )


def _of_rows(rows: Sequence[Mapping[str, Any]]) -> Table:
    return Table(
        names=tuple(dict.fromkeys(name for row in rows for name in row)),
        num_rows=len(rows),
        cells=lambda name: [row.get(name) for row in rows],
    )
