"""A report shows the data, what became of each class, and the examples that changed most."""

import json

import pyarrow as pa
import pytest
from pyarrow import parquet

from jobs.models.words import MAX_LENGTH
from jobs.run.evidence import LONGEST_TEXT, write_truth
from tests.support.html_tables import Page
from tests.support.running import run_project
from tests.support.tiny_lstm import LABELS, make_sentences

SECRET = "zebra"


@pytest.fixture
def told(project):
    """A project whose texts are long, hostile, and all have one word."""
    texts, labels = make_sentences(600)
    texts = [f"{text} <b>{SECRET}</b>|{'x' * 300} {'and ' * (MAX_LENGTH if i % 50 == 0 else 0)}"
             for i, text in enumerate(texts)]  # fmt: skip
    table = pa.table({"text": texts, "label": labels, "id": [f"e{i}" for i in range(600)]})
    parquet.write_table(table, project / "data" / "eval.parquet")
    return project


def files_of(project, result):
    folder = project / "merged" / "runs" / result.run
    return {
        name: (folder / name).read_text() for name in ("report.html", "report.md", "report.json")
    }


def test_data_classes_and_examples_are_in_the_report(told):
    result = run_project(told)
    report, files = result.report, files_of(told, result)
    assert (report.data.num_rows, report.data.num_cut) == (600, 12)
    assert sum(report.data.classes.values()) == 600
    assert {row.label for row in report.answers} == set(LABELS)
    assert sum(sum(row.given) for row in report.answers) == report.slices["gate"]
    fused = next(m for m in report.models if m.role == "fused")
    right = sum(row.given[place] for place, row in enumerate(report.answers))
    assert right / report.slices["gate"] == pytest.approx(fused.gate.metrics["accuracy"])
    changes = [abs(e.loss_best - e.loss_fused) for e in report.examples]
    assert len(changes) == 20
    assert changes == sorted(changes, reverse=True)
    assert all(len(e.text) == LONGEST_TEXT and e.truth in LABELS for e in report.examples)
    assert f"<b>{SECRET}" not in files["report.html"]
    page = Page(files["report.html"])
    rows = page.tables["Example by example"]
    assert [row["example"] for row in rows] == [e.id for e in report.examples]
    assert "The end of 12 texts was not read" in page.warnings[0]
    assert sum(int(row["examples"]) for row in page.tables["Class by class"]) == sum(
        row.num_examples for row in report.answers
    )
    assert all(SECRET in row["text"] for row in rows)


def test_a_recipe_without_examples_keeps_every_text_out(told):
    recipe = told / "recipe.yaml"
    recipe.write_text(recipe.read_text() + "report: {examples: 0}\n")
    result = run_project(told)
    assert result.report.examples == ()
    for content in files_of(told, result).values():
        assert SECRET not in content
    assert json.loads(files_of(told, result)["report.json"])["answers"]


def test_a_number_that_is_the_truth_has_no_more_digits_than_matter():
    truths = [5.581105471308165, -0.00012345678, 2.0, 3, "positive"]
    assert [write_truth(t) for t in truths] == ["5.58111", "-0.000123457", "2", "3", "positive"]
