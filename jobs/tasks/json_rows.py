"""JSON: an object a line, objects in a row, or one array of objects."""

import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from jobs.tasks.sniff import block_bytes, count_wrong, not_a_table

Rows = list[dict[str, Any]]


def parse_json(
    content: bytes, where: str, wanted: Sequence[str]
) -> tuple[Rows, Any, dict[str, list[Any]]]:
    """Rows of objects.

    Args:
        content: bytes of the file, in UTF-8, that begin with a brace or bracket.
        where: place of the file, for messages.
        wanted: names of the columns that will be read.

    Returns:
        Rows, or a table of pyarrow in their place: it reads objects, and is much faster. With it
        the texts of those wanted columns that it takes for times.

    Raises:
        DataError: what is no JSON, or no objects; the error counts and shows the lines.
    """
    import pyarrow as pa
    from pyarrow import json as arrow_json

    text = content.removeprefix(b"\xef\xbb\xbf")
    if not text.lstrip().startswith(b"["):
        options = arrow_json.ReadOptions(use_threads=False, block_size=block_bytes(text))
        try:
            typed = arrow_json.read_json(pa.BufferReader(text), options)
        except pa.ArrowException:
            return _read_objects(text.decode(), where), None, {}
        times = [
            name
            for name in dict.fromkeys(wanted)
            if name in typed.column_names and pa.types.is_timestamp(typed[name].type)
        ]
        if not times:
            return [], typed, {}
        schema = pa.schema([(name, pa.string()) for name in times])
        parse = arrow_json.ParseOptions(schema, unexpected_field_behavior="ignore")
        texts = arrow_json.read_json(pa.BufferReader(text), options, parse)
        return [], typed, {name: texts[name].to_pylist() for name in times}
    return _read_array(text.decode(), where), None, {}


def _read_array(text: str, where: str) -> Rows:
    try:
        found = json.loads(text)
    except (ValueError, RecursionError) as error:
        rows = _try_lines(text)  # arrays a line are no objects either, and are named as such
        if rows is None:
            raise not_a_table(
                where, f"it begins as a JSON array, and: {error!s:.120}", "bring it again"
            ) from None
        found = rows
    return _as_objects(found, where)


def _read_objects(text: str, where: str) -> Rows:
    """Objects in lines; if that fails, objects one after the other."""
    found: list[Any] = []
    wrong: list[int] = []
    reason = ""
    lines = text.split("\n")
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        try:
            found.append(json.loads(line))
        except (ValueError, RecursionError) as error:
            wrong.append(number)
            reason = reason or str(error)
    if wrong:
        try:
            found = list(_each(text))
        except (ValueError, RecursionError):
            count = sum(bool(line.strip()) for line in lines)
            said = f"no JSON object is in line {count_wrong(wrong, count)}: {reason:.120}"
            raise not_a_table(where, said, "write one object a line, or one array") from None
    return _as_objects(found, where)


def _each(text: str) -> Iterator[Any]:
    decoder, place = json.JSONDecoder(), 0
    while place < len(text):
        if text[place].isspace():
            place += 1
            continue
        value, place = decoder.raw_decode(text, place)
        yield value


def _try_lines(text: str) -> list[Any] | None:
    try:
        return [json.loads(line) for line in text.split("\n") if line.strip()]
    except (ValueError, RecursionError):
        return None


def _as_objects(found: Sequence[Any], where: str) -> Rows:
    wrong = [row for row, value in enumerate(found) if not isinstance(value, Mapping)]
    if wrong:
        kind = type(found[wrong[0]]).__name__
        raise not_a_table(
            where,
            f"a JSON {kind} and no object is in row {count_wrong(wrong, len(found))}",
            'each row is an object such as {"text": "...", "label": "..."}',
        )
    halves = [row for row, value in enumerate(found) if not _is_text(value)]
    if halves:
        raise not_a_table(
            where,
            f"half a character (a lone surrogate) stands in row {count_wrong(halves, len(found))}",
            "texts were cut inside a character: write them again",
        )
    return list(found)


def _is_text(row: Mapping[str, Any]) -> bool:
    try:
        "".join(value for value in row.values() if isinstance(value, str)).encode()
    except UnicodeEncodeError:
        return False
    return True
