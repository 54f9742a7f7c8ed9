"""Answers as rows: lines for people, objects for machines, files in three formats."""

import csv
import io
import json
import os
from collections.abc import Sequence
from dataclasses import asdict

from cluster.stores.open_store import open_file
from jobs.consume.predict import Answer
from jobs.errors import UsageError
from jobs.tasks.table import PACKED_ENDINGS, plain_ending

HEAD = ("line", "text", "kind", "answer", "probability", "probabilities")
ENDINGS = (".parquet", ".jsonl", ".csv")


def format_line(answer: Answer) -> str:
    """One line, whatever is in it: answer, probability, text; an empty line for a blank one."""
    if answer.answer is None:
        return ""
    sure = f"  {answer.probability:.3f}" if answer.probability is not None else ""
    return f"{_escape(answer.answer)}{sure}\t{_escape(answer.text)}"


def plain_answer(number: int, answer: Answer) -> dict[str, object]:
    """An answer as one object, with the number of its line or row from 1."""
    return {"line": number, **asdict(answer)}


def check_ending(uri: str) -> None:
    """Refuse a file of another format before a model is loaded.

    Raises:
        UsageError: names the formats.
    """
    if plain_ending(uri) not in ENDINGS or uri.lower().endswith(PACKED_ENDINGS):
        raise UsageError(
            f"--output {uri}: a name that ends in {', '.join(ENDINGS)} is expected; nothing was "
            "asked"
        )


def check_other_file(source: str | None, uri: str) -> None:
    """Refuse answers that would take the place of the texts.

    Raises:
        UsageError: both names stand for one file.
    """
    if source is None:
        return
    is_local = "://" not in source and "://" not in uri
    if source == uri or (is_local and os.path.realpath(source) == os.path.realpath(uri)):
        raise UsageError(
            f"--input and --output are both {uri}; nothing was asked, and nothing was written",
            "give the answers a file of their own",
        )


def write_answers(uri: str, answers: Sequence[Answer]) -> None:
    """Write a file with a row an answer, in the order of the questions; it appears whole.

    Columns: line (from 1), text, kind, answer, probability, probabilities; those of a blank
    question are empty.

    Args:
        uri: place of the file, whose ending is one of ENDINGS.
        answers: answers to all questions, blank ones included.
    """
    rows = [plain_answer(number, answer) for number, answer in enumerate(answers, 1)]
    formats = {".parquet": _format_parquet, ".jsonl": _format_lines, ".csv": _format_csv}
    store, name = open_file(uri)
    store.put(name, formats[plain_ending(uri)](rows))


def _format_parquet(rows: Sequence[dict[str, object]]) -> bytes:
    import pyarrow as pa
    from pyarrow import parquet

    text, number = pa.string(), pa.float64()
    kinds = (pa.int64(), text, text, text, number, pa.map_(text, number))
    tables = [row[HEAD[-1]] for row in rows]
    values = {name: [row[name] for row in rows] for name in HEAD[:-1]}
    values[HEAD[-1]] = [list(table.items()) for table in tables if isinstance(table, dict)]
    columns = {name: pa.array(values[name], kind) for name, kind in zip(HEAD, kinds, strict=True)}
    out = io.BytesIO()
    parquet.write_table(pa.table(columns), out, compression="zstd")
    return out.getvalue()


def _format_lines(rows: Sequence[dict[str, object]]) -> bytes:
    return "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows).encode()


def _format_csv(rows: Sequence[dict[str, object]]) -> bytes:
    out = io.StringIO(newline="")
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(HEAD)
    for row in rows:
        writer.writerow(
            [
                json.dumps(row[name], ensure_ascii=False) if name == HEAD[-1] else row[name]
                for name in HEAD
            ]
        )
    return out.getvalue().encode()


def _escape(text: str) -> str:
    return text.replace("\r", "\\r").replace("\n", "\\n")
