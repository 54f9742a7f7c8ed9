"""What `metafuse predict` answers stays in the rows of what was asked, from and to any format."""

import gzip
import io
import json

import pyarrow as pa
import pytest
from pyarrow import csv, parquet

from tests.support.calling import call
from tests.support.tiny_lstm import write_candidates
from tests.support.tiny_models import write_classifier

TEXTS = ["great phone", None, "bad\nfood", "fine, really"]


@pytest.fixture(scope="module")
def models(tmp_path_factory):
    folder = tmp_path_factory.mktemp("models")
    write_candidates(folder)
    return folder


@pytest.fixture
def give(monkeypatch):
    """Bytes on stdin."""

    def set_stdin(content):
        monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(content), "ascii"))

    return set_stdin


def test_json_is_one_object_a_line_with_its_number(capsys, models, give):
    give("caf\u00e9\n\nbad food\n".encode())
    status, out, _ = call(capsys, "predict", models / "a", "--json")
    found = [json.loads(line) for line in out.splitlines()]
    assert status == 0
    assert [(row["line"], row["text"]) for row in found] == [
        (1, "caf\u00e9"),
        (2, ""),
        (3, "bad food"),
    ]
    assert (found[1]["answer"], found[1]["kind"]) == (None, "none")
    assert found[2]["answer"] in ("negative", "positive")


def test_more_lines_than_are_asked_at_once_keep_their_order(capsys, models, give):
    texts = [f"food number {i}" if i % 7 else "" for i in range(2500)]
    give("".join(text + "\n" for text in texts).encode())
    for names in ("a", "ab"):
        give("".join(text + "\n" for text in texts).encode())
        _, out, _ = call(capsys, "predict", *(models / name for name in names), "--json")
        assert [json.loads(line)["text"] for line in out.splitlines()] == texts


def write(path, texts):
    table = pa.table({"text": pa.array(texts, pa.string()), "n": list(range(len(texts)))})
    if path.suffix == ".parquet":
        parquet.write_table(table, path)
    elif path.suffix == ".csv":
        csv.write_csv(table, path)
    else:
        lines = "".join(json.dumps(row) + "\n" for row in table.to_pylist())
        path.write_bytes(gzip.compress(lines.encode()) if path.suffix == ".gz" else lines.encode())


@pytest.mark.parametrize("source", ["q.parquet", "q.csv", "q.jsonl", "q.jsonl.gz"])
@pytest.mark.parametrize("target", ["a.parquet", "a.csv", "a.jsonl"])
def test_files_are_read_and_written_row_by_row(capsys, models, tmp_path, source, target):
    write(tmp_path / source, TEXTS)
    out = tmp_path / target
    status, said, err = call(
        capsys, "predict", models / "a", "--input", tmp_path / source, "--output", out
    )
    assert (status, said.strip()) == (0, str(out)), err
    if target == "a.parquet":
        rows = parquet.read_table(out).to_pylist()
    elif target == "a.csv":
        rows = csv.read_csv(
            out, parse_options=csv.ParseOptions(newlines_in_values=True)
        ).to_pylist()
    else:
        rows = [json.loads(line) for line in out.read_text().splitlines()]
    assert [row["line"] for row in rows] == [1, 2, 3, 4]
    assert [row["text"] or None for row in rows] == TEXTS
    assert not rows[1]["answer"]
    assert {row["answer"] for row in rows if row["text"]} <= {"negative", "positive"}
    sums = [row["probabilities"] for row in rows if row["text"]]
    tables = [json.loads(found) if isinstance(found, str) else dict(found) for found in sums]
    assert all(sum(table.values()) == pytest.approx(1) for table in tables)


def test_lines_for_people_have_a_line_a_row_too(capsys, models, tmp_path):
    write(tmp_path / "q.csv", TEXTS)
    _, out, _ = call(capsys, "predict", models / "a", "--input", tmp_path / "q.csv")
    assert [line.partition("\t")[2] for line in out.splitlines()] == [
        "great phone", "", "bad\\nfood", "fine, really",
    ]  # fmt: skip


def test_a_model_that_writes_leaves_one_line_a_row(capsys, tmp_path):
    writer = write_classifier(tmp_path / "g", "gpt2", head=False)
    _, out, _ = call(capsys, "predict", writer, "--text", "the film", "--text", "lovely food")
    assert len(out.splitlines()) == 2


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("caf\u00e9\n".encode("latin-1"), "line 1 of stdin has the byte 0xE9"),
        (b"fine\nfine\n\xff\n", "line 3 of stdin has the byte 0xFF"),
        ("fine\n".encode("utf-16"), "line 1 of stdin is text in UTF-16"),
    ],
)
def test_lines_in_another_encoding_are_named(capsys, models, give, content, said):
    give(content)
    status, _, err = call(capsys, "predict", models / "a")
    assert (status, said in err, "iconv" in err) == (10, True, True)


@pytest.mark.parametrize(
    ("arguments", "status", "said"),
    [
        (["--input", "{}/none.csv"], 10, "does not exist"),
        (["--input", "{}/q.csv", "--column", "review"], 10, "no column 'review', it has"),
        (["--input", "{}/q.parquet", "--column", "n"], 10, "not text in row 0, 1, 2 (4 of 4 rows)"),
        (["--input", "{}/q.csv", "--text", "x"], 2, "both given"),
        (["--text", "x", "--output", "{}/a.xlsx"], 2, ".parquet, .jsonl, .csv"),
        (["--text", "caf\udce9"], 2, "not in UTF-8"),
    ],
)  # fmt: skip
def test_what_cannot_be_asked_is_said_before_a_model_is_loaded(
    capsys, models, tmp_path, arguments, status, said
):
    write(tmp_path / "q.csv", TEXTS)
    write(tmp_path / "q.parquet", TEXTS)
    given = [argument.format(tmp_path) for argument in arguments]
    found, _, err = call(capsys, "predict", models / "a", *given)
    assert (found, said in err) == (status, True), err


def test_nothing_but_blank_lines_is_nothing_to_ask(capsys, models, give):
    give(b"\n  \n")
    status, _, err = call(capsys, "predict", models / "a")
    assert (status, "nothing to ask" in err) == (2, True)
