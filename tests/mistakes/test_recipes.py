"""R001 to R050: mistakes in a recipe, each with what must come of it."""

from pathlib import Path

import pytest

from jobs.recipes.recipe import load_recipe
from tests.mistakes.support import (
    RECIPE,
    RUN,
    Row,
    Step,
    check_row,
    edited,
    listed_ids,
    make_rows,
    planned,
    refused,
    write_bert,
)

BOM = b"\xef\xbb\xbf"
WEIGHTS = "weights: {rule: softmax, temperature: 1.0}"
KEEP = "select: {keep: 5}"
COLUMNS = "columns: {text: text, label: label}"
NAMES_ASKED = "weights go by name, so that neither order nor number can be mistaken"


def written(content: bytes):
    """Write the whole recipe."""
    return lambda folder: (folder / "recipe.yaml").write_bytes(content)


def weights(new: str):
    return edited(WEIGHTS, f"weights: {new}")


def select(new: str):
    return edited(KEEP, f"select: {new}")


def gate(new: str):
    return edited("gate: {smallest_effect: 0.01, alpha: 0.05}", f"gate: {new}")


def from_windows(folder: Path) -> None:
    (folder / "recipe.yaml").write_bytes(BOM + RECIPE.replace("\n", "\r\n").encode())
    recipe = load_recipe(folder / "recipe.yaml")
    assert (recipe.name, recipe.output) == ("nightly", str(folder / "out"))
    assert "\r" not in repr((recipe.candidates, recipe.task))


def rewrite_data(folder: Path, head: str, line: str) -> None:
    rows = enumerate(make_rows(400))
    lines = [line.format(number=i, text=text, label=label) for i, (text, label) in rows]
    (folder / "eval.csv").write_text("\n".join([head, *lines]) + "\n")


def number_rows(folder: Path) -> None:
    rewrite_data(folder, "no,text,label", "{number},{text},{label}")
    edited(COLUMNS, "columns: {id: no, text: text, label: label}")(folder)


def move_recipe(folder: Path) -> None:
    (folder / "nightly").mkdir()
    (folder / "recipe.yaml").rename(folder / "nightly" / "recipe.yaml")


def fuse_before(folder: Path) -> None:
    """What a run of yesterday leaves in an output among the candidates."""
    edited("output: ./out", "output: ./ckpts/merged")(folder)
    write_bert(folder / "ckpts/merged/runs/nightly-2026-11-23.1/model-0123456789ab", seed=7)


def renamed(folder: Path) -> None:
    (folder / "eval.csv").rename(folder / "eval #2.csv")
    edited("data: ./eval.csv", "data: ./eval #2.csv")(folder)


def turn_columns(folder: Path) -> None:
    rewrite_data(folder, "review,stars", "{text},{label}")
    edited(COLUMNS, "columns: {review: text, stars: label}")(folder)


AS_LIST = "".join(f"- {line}\n" for line in RECIPE.splitlines() if not line.startswith(" "))
MARKS = "<<<<<<< HEAD\noutput: ./out\n=======\noutput: ./out2\n>>>>>>> main\n"
ROWS = (
    Row("R001", edited("candidates:", "candidate:"),
        (refused("recipe.yaml:2: candidate: unknown key; did you mean 'candidates'"),)),
    Row("R002", edited(WEIGHTS, "weights: {rule: softmax}\ntemperature: 0.5"),
        (refused("recipe.yaml:9: temperature: unknown key", "weights.temperature"),)),
    Row("R003", edited("  kind", "\tkind", "  data", "\tdata", "  columns", "\tcolumns"),
        (refused("recipe.yaml:5: .*tab", "spaces"),)),
    Row("R004", from_windows, (planned("plan nightly 3 candidates"),)),
    Row("R005", written(b"\xff\xfe" + RECIPE.encode("utf-16-le")),
        (refused("recipe.yaml", "UTF-16", "UTF-8"),)),
    Row("R006", edited("alpha: 0.05}\n", "alpha: 0.05}\noutput: ./out2\n"),
        (refused("recipe.yaml:12: output: given twice, first in line 10"),)),
    Row("R007", edited("[./ckpts/*]", "./ckpts/*"), (planned("use a", "use c"),)),
    Row("R008", edited("[./ckpts/*]", "\n  - */checkpoint-500"),
        (refused("recipe.yaml:3: ", r"\*", "quot"),)),
    Row("R009", edited("name: nightly", "name: 2024-06-01"), (planned("plan 2024-06-01 "),)),
    Row("R010", number_rows, (planned("400 rows"),)),
    Row("R011", weights("{rule: softmax, temperature: 0}"),
        (refused("recipe.yaml:8: weights.temperature: .*above 0", "keep: 1|0.01"),)),
    Row("R012", weights("{rule: softmax, temperature: 0,5}"),
        (refused("recipe.yaml:8: weights.5: unknown key", "point"),)),
    Row("R013", weights("{rule: uniform, temperature: 2.0}"),
        (refused("recipe.yaml:8: weights.temperature", "softmax"),)),
    Row("R014", weights("{rule: fixed, values: [0.6, 0.4]}"),
        (refused("recipe.yaml:8: weights.values", r"values: \{"),), reason=NAMES_ASKED),
    Row("R015", weights("{rule: fixed, values: [9, 5, 3]}"),
        (refused("recipe.yaml:8: weights.values", r"values: \{"),), reason=NAMES_ASKED),
    Row("R016", weights("{rule: fixed, values: [0.5, .nan, 0.5]}"),
        (refused("recipe.yaml:8: weights.values", r"values: \{"),
         Step(("plan", "recipe.yaml"), (10,), ("weights.values.b", "nan"),
              before=edited("[0.5, .nan, 0.5]", "{a: 0.5, b: .nan, c: 0.5}"))),
        reason=NAMES_ASKED),
    Row("R017", weights("{rule: fixed, values: {a: 0.5, b: 0.3, d: 0.2}}"),
        (refused("no weight for 'c'", "'d' is not a candidate"),)),
    Row("R018", edited("method: linear", "method: ties"),
        (refused("recipe.yaml:9: merge.method: 'ties'", "linear"),)),
    Row("R019", edited("dtype: float32", "dtype: bf16"),
        (refused("recipe.yaml:9: merge.dtype: 'bf16'", "did you mean 'bfloat16'"),)),
    Row("R020", edited("dtype: float32", "dtype: int8"),
        (refused("recipe.yaml:9: merge.dtype", "int8", "float32", "bfloat16"),)),
    Row("R021", select("{keep: 5, max_parameters: 2GB}"),
        (refused("recipe.yaml:3: select.max_parameters", "2B", "2GB", "parameters"),)),
    Row("R022", select("{keep: 5, settle: 10}"), (planned("settle.* 10 s"),)),
    Row("R023", select("{keep: 5, settle: 1:30}"),
        (refused("recipe.yaml:3: select.settle", "'1:30'", "90m"),)),
    Row("R024", select("{keep: 0}"),
        (refused("recipe.yaml:3: select.keep", "at least 1|equal to 1", "leave"),)),
    Row("R025", select("{keep: all}"),
        (refused("recipe.yaml:3: select.keep", "whole number|integer", "'all'", "leave"),)),
    Row("R026", select("{keep: 50}"), (planned("3 candidates", "keep: 50"),)),
    Row("R027", edited(KEEP, 'select: {keep: "2"}', "0.01", '"0.01"', "0.05", '"0.05"'),
        (planned("use a"),)),
    Row("R028", gate("{alpha: 5}"), (refused("recipe.yaml:11: gate.alpha", "0.05"),)),
    Row("R029", gate("{smallest_effect: 1%, alpha: 0.05}"),
        (refused("recipe.yaml:11: gate.smallest_effect", "'1%'", "loss", "0.01"),)),
    Row("R030", gate("{smallest_effect: -0.05}"),
        (refused("recipe.yaml:11: gate.smallest_effect", "-0.05", "metafuse promote"),)),
    Row("R031", gate("{alpha: 1e-3}"), (planned("use a"),)),
    Row("R032", gate("off"),
        (refused("recipe.yaml:11: gate: .*mapping", "'off'|false", "metafuse promote"),)),
    Row("R033", edited("text-classification", "text_classification"),
        (refused("recipe.yaml:5: task.kind", "did you mean 'text-classification'"),)),
    Row("R034", edited("text-classification", "text-generation"),
        (refused("recipe.yaml:5: task.kind", "text-classification", "'text-generation'"),)),
    Row("R035", edited("./eval.csv", "~/eval.csv"), (planned("400 rows"),),
        environment={"HOME": "{folder}"}),
    Row("R036", edited("output: ./out", "output: ${OUT_DIR}/merged"),
        (refused("recipe.yaml:10: output: ", "OUT_DIR"),), environment={"OUT_DIR": None}),
    Row("R037", move_recipe,
        (refused("{folder}/nightly/(./)?ckpts", "recipe's folder", statuses=(10, 13),
                 words=("plan", "nightly/recipe.yaml")),),
        reason="a pattern that stands for nothing ends with 13"),
    Row("R038", fuse_before, (planned("3 candidates", never=("merged/",)),)),
    Row("R039", edited("output: ./out", "output: ./ckpts/a"),
        (refused("output: .*ckpts/a", "candidate a", statuses=(10, 11)),
         refused("output: .*ckpts/a", "candidate a", statuses=(10, 11), words=RUN))),
    Row("R040", written(b""), (refused("recipe.yaml", "empty", "metafuse (init|demo|recipe)"),)),
    Row("R041", written(AS_LIST.encode()),
        (refused("recipe.yaml:1: ", "mapping of keys", "list"),)),
    Row("R042", written((RECIPE + "---\n" + RECIPE.replace("./out", "./old")).encode()),
        (refused("recipe.yaml:12: ", "second document|another document", "one recipe"),)),
    Row("R043", edited("name: nightly", "defaults: &d {smallest_effect: 0.01, alpha: 0.05}\n"
                       "name: nightly", "gate: {smallest_effect: 0.01,", "gate: {<<: *d,"),
        (refused("recipe.yaml:1: defaults: unknown key", "recipe.yaml:12: .*anchors"),)),
    Row("R044", edited("name: nightly", "name: sentiment: nightly"),
        (refused("recipe.yaml:1: ", "column 16", "quot"),)),
    Row("R045", renamed,
        (refused("{folder}/(./)?eval ", "eval #2.csv", "quot", statuses=(10, 21)),)),
    Row("R046", weights("{rule: “softmax”, temperature: 1.0}"),
        (refused("recipe.yaml:8: weights.rule", "“softmax”", "'softmax', 'uniform'"),)),
    Row("R047", edited("  kind", "\u00a0\u00a0kind", "  data", "\u00a0\u00a0data",
                       "  columns", "\u00a0\u00a0columns"),
        (refused(r"recipe.yaml:5: .*U\+00A0"),)),
    Row("R048", edited(COLUMNS, "columns: {text: label, label: text}"),
        (refused("eval.csv", "'text'", "negative", "task.columns"),)),
    Row("R049", turn_columns,
        (refused("task.columns", "review", "stars", r"\{text: review, label: stars\}"),)),
    Row("R050", edited("output: ./out\n", MARKS), (refused("recipe.yaml:10: ", "git"),)),
)  # fmt: skip


def test_the_table_has_every_row():
    assert [row.id for row in ROWS] == listed_ids("R")


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.id)
def test_a_mistake_in_a_recipe(row, base, capsys):
    check_row(row, base, capsys)
