"""Evaluation data is read by what its bytes are, and what cannot be read is named."""

import bz2
import gzip
import hashlib
import io
import json

import pyarrow as pa
import pytest
from pyarrow import csv, parquet

from fusion.scores.specs import TASK_SPECS
from jobs.errors import DataError, SourceChangedError
from jobs.tasks.contract import Asked, EvaluationTask
from jobs.tasks.data_files import find_data, read_table
from jobs.tasks.examples import load_examples, read_truths
from jobs.tasks.labels import class_numbers
from jobs.tasks.table import parse_table

ROWS = [("good film", "positive"), ('a "fine"\nday, really', "negative"), ("caf\u00e9", "positive")]
SHARES = {"rank": 0.3, "select": 0.2, "gate": 0.4, "audit": 0.1}
WANTED = ("text", "label")


def zstd(content):
    out = pa.BufferOutputStream()
    with pa.CompressedOutputStream(out, "zstd") as stream:
        stream.write(content)
    return out.getvalue().to_pybytes()


def as_csv(rows=ROWS):
    quoted = (",".join('"' + cell.replace('"', '""') + '"' for cell in row) for row in rows)
    return ("text,label\n" + "\n".join(quoted) + "\n").encode()


def as_parquet(rows=ROWS):
    out = io.BytesIO()
    parquet.write_table(
        pa.table({"text": [r[0] for r in rows], "label": [r[1] for r in rows]}), out
    )
    return out.getvalue()


def objects(rows=ROWS):
    return [{"text": text, "label": label} for text, label in rows]


def as_lines(rows=ROWS):
    return "".join(json.dumps(row) + "\n" for row in objects(rows)).encode()


def read(content, name="d.csv", wanted=WANTED):
    table = parse_table(content, name, wanted)
    return list(zip(*(table.written(column) for column in wanted), strict=True))


def task_for(path, **columns):
    found = find_data(str(path))
    names = {"text": "text", "label": "label"}
    return EvaluationTask(
        "text-classification", found.data, found.pin, names, columns.get("id", ""), "", SHARES, 8,
        None, files=found.files,
    )  # fmt: skip


def packed(content):
    """Gzip of the same bytes at any time."""
    return gzip.compress(content, mtime=0)


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("d.csv", as_csv()),
        ("D.CSV", as_csv()),
        ("d", as_csv()),
        ("d.parquet", as_parquet()),
        ("d.csv of another ending", as_parquet()),
        ("d.jsonl", as_lines()),
        ("d.json", json.dumps(objects(), indent=1).encode()),
        ("d.json", b"\n".join(json.dumps(row, indent=1).encode() for row in objects())),
        ("d.csv.gz", packed(as_csv())),
        ("d.jsonl.gz", packed(as_lines())),
        ("d.jsonl.zst", zstd(as_lines())),
        ("d.csv", bz2.compress(as_csv())),
        ("d.tsv", as_csv().replace(b'","', b'"\t"').replace(b"text,label", b"text\tlabel")),
        ("d.csv", as_csv().replace(b'","', b'"\t"').replace(b"text,label", b"text\tlabel")),
        ("d.csv", b"\xef\xbb\xbf" + as_csv()),
        ("d.jsonl", b"\xef\xbb\xbf" + as_lines()),
        ("d.json", b"\xef\xbb\xbf" + json.dumps(objects()).encode()),
    ],
)
def test_rows_are_the_same_in_every_format(name, content):
    assert read(content, name) == ROWS


def test_line_breaks_in_cells_are_read_in_files_of_any_size():
    rows = [(f"{'good film ' * 200}\nline two {i}", "positive") for i in range(1200)]
    assert len(as_csv(rows)) > 2 << 20
    assert read(as_csv(rows)) == rows


def test_one_row_may_be_longer_than_a_block_of_the_reader():
    rows = [("x" * (3 << 20), "positive"), ("y", "negative")]
    assert read(as_csv(rows)) == rows
    assert read(as_lines(rows), "d.jsonl") == rows


def test_quotes_of_a_tsv_that_quotes_nothing_are_plain_characters():
    content = b'text\tlabel\n"I am, he said\tpositive\nplain\tnegative\nhe said "no"\tpositive\n'
    assert read(content, "d.tsv")[0] == ('"I am, he said', "positive")
    assert read(b'text\tlabel\n"a ""b"""\tx\n', "d.tsv") == [('a "b"', "x")]


def test_the_types_of_texts_and_labels_are_not_guessed():
    content = b"text,label\n007,true\n2024-01-01,false\n1e5,true\n"
    assert [text for text, _ in read(content)] == ["007", "2024-01-01", "1e5"]
    assert read(b"text,label\n1,001\n2,002\n") == [("1", "001"), ("2", "002")]
    lines = b'{"text": "2024-01-01", "label": "2024-02-01T00:00:00"}\n'
    assert read(lines, "d.jsonl") == [("2024-01-01", "2024-02-01T00:00:00")]


@pytest.mark.parametrize(
    ("cells", "labels", "numbers"),
    [
        (["true", "false"], ("false", "true"), (1, 0)),
        (["007", "008"], ("008", "007"), (1, 0)),
        (["01", "00"], ("no", "yes"), (1, 0)),  # read as 1 and 0 ever since
        (["1.0", "0.5"], ("0.5", "1.0"), (1, 0)),
        (["NA", "1"], ("1", "NA"), (1, 0)),
    ],
)
def test_labels_are_names_first_as_they_are_written(tmp_path, cells, labels, numbers):
    path = tmp_path / "d.csv"
    path.write_text("text,label\n" + "".join(f"text {i},{c}\n" for i, c in enumerate(cells)))
    examples = load_examples(task_for(path))
    asked = Asked(labels, {}, "d.csv", "label", examples.written)
    assert class_numbers(examples.cells, asked) == numbers
    mapped = Asked(("x", "y"), dict(zip(cells, (0, 1), strict=True)), "", "", examples.written)
    assert class_numbers(examples.cells, mapped) == (0, 1)


def test_ids_stay_what_they_were_before_cells_were_read_as_written(tmp_path):
    path = tmp_path / "d.csv"
    path.write_text("text,label,id\na,007,01\nb,7,02\n")
    guessed = csv.read_csv(path)
    assert load_examples(task_for(path, id="id")).ids == tuple(map(str, guessed["id"].to_pylist()))
    made = load_examples(task_for(path)).ids
    path.write_text("text,label,id\na,7,01\nb,7,02\n")
    assert made == load_examples(task_for(path)).ids
    assert made[0] == hashlib.sha256(b"a\x007").hexdigest()[:16]


def test_ids_that_a_guess_makes_one_are_taken_as_written(tmp_path):
    path = tmp_path / "d.csv"
    path.write_text("text,label,id\na,x,007\nb,y,7\n")
    assert load_examples(task_for(path, id="id")).ids == ("007", "7")


RAGGED = b"text,label\na,b,c\nd,e\n,,,\nf,g,h\n"
LFS = b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 3\n"


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("d.csv", as_csv().decode().encode("latin-1"), r"line 5 has the byte 0xE9.*caf\u00e9"),
        ("d.csv", as_csv().decode().encode("utf-16"), "UTF-16"),
        ("d.csv", as_csv().decode().encode("utf-16-le"), "UTF-16"),
        ("d.csv", b"text;label\na;b\n", "separated by semicolons"),
        ("d.csv", b"review;stars\na;b\n", "separated by semicolons"),
        ("d.csv", b"text|label\na|b\n", "separated by vertical bars"),
        ("d.csv", LFS, "Git LFS pointer"),
        ("d.parquet", b"<!DOCTYPE html><html>", "a web page"),
        ("d.xlsx", b"PK\x03\x04rest", "spreadsheet"),
        ("d.parquet", as_parquet()[:-9], "cut off"),
        ("d.csv.gz", packed(as_csv() * 999)[:-40], "packed by gzip and cannot be unpacked"),
        ("d.csv.zst", zstd(as_csv() * 999)[:-4], "packed by zstd and cannot be unpacked"),
        ("d.csv.gz", packed(packed(as_csv())), "packed twice"),
        ("d.csv", b"", "empty"),
        ("d.csv", b" \n\n", "empty"),
        ("d.csv", RAGGED, r"2 columns, 3 stand in row 0, 2, 3 \(3 of 4 rows\), line 2, line 4"),
        ("d.json", b'[{"text": "a"}, 7]', "JSON int and no object is in row 1"),
        ("d.json", b'[{"text": "a"},', "begins as a JSON array"),
        ("d.json", b"[" * 100_000, "begins as a JSON array"),
        ("d.jsonl", b'{"text": 1}\n{"text": \n{"a": "x"\n', r"line 2, 3 \(2 of 3 rows\)"),
        ("d.jsonl", b'{"text": "a\\ud83d"}\n', "half a character .* in row 0"),
        ("d.parquet", b"not a table", "is not a table"),
    ],
)  # fmt: skip
def test_what_is_no_table_is_called_what_it_is(name, content, said):
    with pytest.raises(DataError, match=said) as caught:
        read(content, name)
    assert "\x00" not in str(caught.value)
    assert caught.value.hint


def test_a_small_file_that_unpacks_without_end_is_refused():
    with pytest.raises(DataError, match="unpack to more than"):
        read(packed(bytes(300 << 20)), "d.csv.gz")


def test_labels_of_two_types_are_read_from_json():
    lines = b'{"text": "a", "label": 1}\n{"text": "b", "label": "x"}\n'
    assert read(lines, "d.jsonl") == [("a", 1), ("b", "x")]


def test_a_column_that_stands_twice_is_named(tmp_path):
    path = tmp_path / "d.csv"
    path.write_text("text,label,text\na,x,b\n")
    with pytest.raises(DataError, match="has 2 columns called 'text'"):
        load_examples(task_for(path))


def test_empty_cells_are_counted_and_three_are_shown(tmp_path):
    path = tmp_path / "d.csv"
    path.write_text("text,label\n" + "".join(f"{'' if i % 3 else 'a'},x\n" for i in range(9)))
    with pytest.raises(DataError, match=r"'text' is empty in row 1, 2, 4 \(6 of 9 rows\)"):
        load_examples(task_for(path))


def test_numbers_that_are_none_are_counted(tmp_path):
    path = tmp_path / "d.csv"
    path.write_text("text,label\na,0.5\nb,n/a\nc,1.5\nd,?\n")
    task = EvaluationTask("regression", str(path), find_data(str(path)).pin, {"text": "text",
                          "label": "label"}, "", "", SHARES, 8, None)  # fmt: skip
    assert TASK_SPECS["regression"].columns["label"] == "number"
    with pytest.raises(DataError, match=r"'n/a', '\?' in row 1, 3 \(2 of 4 rows\)"):
        read_truths(load_examples(task), task, ())


@pytest.fixture
def several(tmp_path):
    folder = tmp_path / "data"
    (folder / "more").mkdir(parents=True)
    (folder / "b.parquet").write_bytes(as_parquet(ROWS[:1]))
    (folder / "more" / "c.parquet").write_bytes(as_parquet(ROWS[1:]))
    (folder / "_SUCCESS").write_text("")
    (folder / "_metadata.parquet").write_bytes(as_parquet())
    (folder / "README.md").write_text("text")
    return folder


def rows_of(named):
    found = find_data(named)
    task = EvaluationTask("text-classification", found.data, found.pin, dict(zip(WANTED, WANTED,
                          strict=True)), "", "", SHARES, 8, None, files=found.files)  # fmt: skip
    table = read_table(task)
    return list(zip(*(table.written(name) for name in WANTED), strict=True))


def test_a_folder_a_list_and_a_pattern_stand_for_their_files(several):
    assert rows_of(str(several)) == rows_of(f"{several}/") == ROWS
    (several / "a.csv").write_bytes(as_csv(ROWS[:2]))
    assert rows_of((f"{several}/a.csv", f"{several}/b.parquet")) == [*ROWS[:2], ROWS[0]]
    assert rows_of(f"{several}/*.parquet")[:1] == ROWS[:1]
    (several / "x[1].csv").write_bytes(as_csv())
    (several / "x1.csv").write_bytes(as_csv(ROWS[:1]))
    assert rows_of(f"{several}/x[1].csv") == ROWS


def test_several_files_that_change_are_no_longer_what_was_pinned(several):
    before = find_data(str(several)).pin
    assert find_data(str(several), pin=before).pin == before
    (several / "b.parquet").write_bytes(as_parquet(ROWS[:2]))
    with pytest.raises(SourceChangedError, match="when it was pinned"):
        find_data(str(several), pin=before)


def test_of_several_files_the_one_that_is_wrong_is_named(several):
    (several / "b.parquet").write_bytes(as_parquet([("", "x")]))
    with pytest.raises(DataError, match=r"empty in row 0 of b\.parquet"):
        load_examples(task_for(several))
    parquet.write_table(pa.table({"text": ["a"]}), several / "b.parquet")
    with pytest.raises(DataError, match=r"b\.parquet has no column 'label'"):
        load_examples(task_for(several))


def test_a_folder_without_data_and_a_name_that_is_none_are_said_to_be_so(tmp_path):
    for place in (tmp_path, tmp_path / "nothing.csv", tmp_path / "*.csv"):
        with pytest.raises(DataError, match="does not exist"):
            find_data(str(place))
