"""What people do to evaluation data, D001 to D050 of `list.md`: each ends as it should."""

from pathlib import Path

import pyarrow as pa
import pytest

from jobs.recipes.recipe import load_recipe
from jobs.run.prepare import make_task
from jobs.tasks.examples import load_examples
from tests.mistakes.data import (
    arrow,
    at,
    bare_quotes,
    broken_lines,
    categories,
    content,
    contradictions,
    converted,
    gzipped,
    json_array,
    jsonl,
    labelled,
    lines,
    long_text,
    missing_words,
    named,
    nulls,
    number_texts,
    pandas_json,
    parts_and_others,
    parts_in_two_orders,
    rows,
    sorted_labels,
)
from tests.mistakes.folders import both, recipe
from tests.mistakes.judging import Row, judge
from tests.mistakes.nightly import LABELS, examples
from tests.mistakes.support import listed_ids

ALL = ("400 rows in 400 clusters", "positive 52.5 %, negative 47.5 %")
REFUSED = (10,)


def texts(*wanted: str, first: str | None = None):
    """These are the first texts, the others are as they always are, and so are the labels."""

    def look(folder: Path) -> None:
        found = load_examples(make_task(load_recipe(folder / "recipe.yaml")))
        usual = [text for text, _ in examples()]
        assert list(found.texts) == [*wanted, *usual[len(wanted) :]]
        assert [str(cell) for cell in found.cells] == [label for _, label in examples()]

    return look


def first_texts(*wanted: str):
    def look(folder: Path) -> None:
        found = load_examples(make_task(load_recipe(folder / "recipe.yaml")))
        assert found.texts[: len(wanted)] == wanted

    return look


def both_classes(folder: Path) -> None:
    found = load_examples(make_task(load_recipe(folder / "recipe.yaml")))
    for name in ("rank", "gate"):
        assert {found.cells[row] for row in found.rows(name)} == set(LABELS)


def first_lines(folder: Path) -> None:
    found = load_examples(make_task(load_recipe(folder / "recipe.yaml")))
    assert found.texts[0] == examples()[0][0].replace(" ", "\n", 1)


SAME = texts()
ROWS = (
    Row("D001", content(lambda b: b.replace(b"\n", b"\ncaf\xe9 ", 17).replace(b"caf\xe9", b"cafe",
        16)), ("eval.csv", "not in UTF-8", "line 18", "iconv"), REFUSED),
    Row("D002", content(lambda b: b.decode().replace(",", "\t").encode("utf-16")),
        ("eval.csv", "UTF-16", "iconv"), REFUSED),
    Row("D003", content(lambda b: b"\xef\xbb\xbf" + b), ALL, after=SAME),
    Row("D004", content(lambda b: b.replace(b",", b";")), ("eval.csv", "separated by semicolons",
        "python3 -c"), REFUSED),
    Row("D005", content(lambda b: b.replace(b",", b"\t")), ALL, after=SAME),
    Row("D006", lines(lambda old: ["a lovely film,positive", *old[1:]]), ("eval.csv",
        "no column 'text'", "['a lovely film', 'positive']", "first line", "header"), REFUSED),
    Row("D007", lines(lambda old: [*old[:201], old[0], *old[201:]]), ("eval.csv", "'label'",
        "line 202", "header"), REFUSED),
    Row("D008", rows(lambda old: [(*row, "x") for row in old], header=("text", "label", "text")),
        ("eval.csv", "2 columns called 'text'"), REFUSED),
    Row("D009", lines(lambda old: ["text, label", *old[1:]]), ("eval.csv", "' label'"), REFUSED),
    Row("D010", at(57, line='"a film with no end,positive'), ("eval.csv", "line 58", "quote"),
        REFUSED),
    Row("D011", at(12, 90, line="good, but long,positive"), ("eval.csv", "line 13", "line 91",
        "2 columns", "3 stand", "double quotes"), REFUSED),
    Row("D012", broken_lines, ALL, after=first_lines),
    Row("D013", labelled(lambda i, label: i % 5 + 1), ("column 'label'", "1", "negative",
        "task: {labels:"), REFUSED),
    Row("D014", labelled(lambda i, label: ("Positive", "NEGATIVE", " positive ")[i % 3]),
        ("' positive '", "'NEGATIVE'", "'negative', 'positive'", "task: {labels:"), REFUSED),
    Row("D015", labelled(lambda i, label: LABELS.index(label) + 1), ("column 'label'", "2",
        "'negative', 'positive'", '1: "negative", 2: "positive"'), REFUSED),
    Row("D016", labelled(lambda i, label: f"{LABELS.index(label)}.0"), ("column 'label'", "0.0",
        "'negative', 'positive'", "task: {labels:"), REFUSED),
    Row("D017", jsonl(lambda i, text, label: {"text": text, "label": label == "positive"}),
        ("column 'label'", "True", "'negative', 'positive'", 'true: "positive"'), REFUSED),
    Row("D018", labelled(lambda i, label: label if i % 2 else LABELS.index(label)),
        ("column 'label'", "'0'", "row 0", "'negative', 'positive'"), REFUSED),
    Row("D019", at(4, 79, 299, line="nice,"), ("column 'label' is empty", "line 5", "line 80",
        "line 300", "3 of 400"), REFUSED),
    Row("D020", arrow(nulls), ("eval.parquet", "column 'text' is empty in row 3, 250"), REFUSED),
    Row("D021", both(at(7, 8, 9, line='"",{label}'), at(10, 11, line='"   ",{label}')),
        ("column 'text' is empty", "line 8", "5 of 400"), REFUSED),
    Row("D022", labelled(lambda i, label: "positive"), ("column 'label'", "'positive'",
        "'negative'"), REFUSED),
    Row("D023", lines(lambda old: old[:1]), ("eval.csv has no rows",), REFUSED),
    Row("D024", lines(lambda old: old[:4]), ("eval.csv", "3 clusters", "needs at least"), REFUSED),
    Row("D025", content(lambda b: b""), ("eval.csv", "is empty"), REFUSED),
    Row("D026", rows(lambda old: old[:8] * 50), ("8 clusters", "392 of 400 rows repeat",
        "8 are different")),
    Row("D027", rows(contradictions), ("20 texts", "more than one label")),
    Row("D028", both(rows(lambda old: [(i % 200 + 1, *row) for i, row in enumerate(old)],
        header=("id", "text", "label")), named("{id: id, text: text, label: label}")),
        ("column 'id'", "'1'", "line 2", "line 202"), REFUSED),
    Row("D029", both(rows(lambda old: [(*row, "u1") for row in old],
        header=("text", "label", "user")), named("{text: text, label: label, cluster: user}")),
        ("1 clusters (column 'user')", "finer column"), REFUSED),
    Row("D030", both(rows(lambda old: [(*row, f"u{i % 90}" if i % 10 else "") for i, row in
        enumerate(old)], header=("text", "label", "user")), named("{text: text, label: label, "
        "cluster: user}")), ("column 'user' is empty", "line 2", "40 of 400"), REFUSED),
    Row("D031", recipe("./eval.csv", "[./eval.csv, ./eval.csv]"), ("eval.csv", "twice"), REFUSED),
    Row("D032", converted, ("800 rows in 400 clusters", "400 of 800 rows repeat")),
    Row("D033", parts_and_others, (*ALL, "README.md"), after=SAME),
    Row("D034", parts_in_two_orders, ALL, after=SAME),
    Row("D035", arrow(pa.table, cut=200), ("eval.parquet", "cut off"), REFUSED),
    Row("D036", content(bytes, file="eval.parquet"), ("eval.parquet", "begins with 'text,label",
        "CSV"), REFUSED),
    Row("D037", arrow(categories), ALL, after=SAME),
    Row("D038", arrow(lambda c: pa.table({**c, "text": [t.split() for t in c["text"]]})),
        ("eval.parquet", "column 'text'", "a list"), REFUSED),
    Row("D039", arrow(lambda c: pa.table({**c, "text": [t.encode() for t in c["text"]]})),
        ("eval.parquet", "column 'text'", "bytes"), REFUSED),
    Row("D040", json_array, ALL, after=SAME),
    Row("D041", jsonl(lambda i, text, label: {"example": {"text": text}, "gold":
        {"label": label}}), ("no column 'text'", "['example', 'gold']", "example"), REFUSED),
    Row("D042", pandas_json, ("eval.json", 'orient="records"'), REFUSED),
    Row("D043", jsonl(lambda i, text, label: {"text": text, "lable" if i == 32 else "label":
        label}), ("column 'label'", "line 33"), REFUSED),
    Row("D044", jsonl(lambda i, text, label: {"text": text, "label": label}, cut=30),
        ("eval.jsonl", "line 400"), REFUSED),
    Row("D045", rows(long_text), ("400 rows", "1 text of 400 cut")),
    Row("D046", rows(number_texts), ("400 rows",), after=first_texts("007", "1.50", "12345")),
    Row("D047", rows(missing_words), ("400 rows",), after=texts("NA", "null", "None", "nan")),
    Row("D048", content(gzipped), ALL, after=SAME),
    Row("D049", rows(sorted_labels), ("400 rows", "negative 50.0 %, positive 50.0 %"),
        after=both_classes),
    Row("D050", bare_quotes, ALL),
)  # fmt: skip


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.id)
def test_a_mistake_in_the_data(row, nightly, capsys):
    judge(row, nightly, capsys)


def test_every_mistake_in_the_data_has_its_row():
    assert [row.id for row in ROWS] == listed_ids("D")
