"""Examples that hang together: few clusters are said to be too few, and never end in a bug."""

import pyarrow as pa
import pytest
from pyarrow import parquet

from jobs.commands.evaluate import format_error
from tests.support.calling import call, edit_recipe, plan

# By the fixed key of the slices: one of rank, one of select, one of gate.
SOURCES = ("imdb", "mail", "web")


@pytest.fixture
def clustered(project):
    """A project whose examples come from three sources only."""
    path = project / "data" / "eval.parquet"
    table = parquet.read_table(path).to_pydict()
    table["source"] = [SOURCES[i % len(SOURCES)] for i in range(len(table["text"]))]
    parquet.write_table(pa.table(table), path)
    edit_recipe(project, "id: id}", "id: id, cluster: source}")
    return project


@pytest.mark.parametrize("verb", ["plan", "run"])
def test_a_gate_slice_of_one_cluster_is_refused_before_anything_is_paid(capsys, clustered, verb):
    status, _, err = call(capsys, verb, clustered / "recipe.yaml")
    assert (status, "E-DATA" in err) == (10, True)
    assert "3 clusters (column 'source') for 4 slices" in err
    assert "rank 1, select 1, gate 1, audit 0" in err
    assert "the gate slice needs at least 2" in err
    assert "task.columns.cluster" in err


def test_a_slice_without_a_cluster_is_refused_alike(capsys, clustered):
    edit_recipe(
        clustered, "  columns:", "  slices: {rank: 1, select: 0, gate: 0, audit: 0}\n  columns:"
    )
    assert plan(capsys, clustered)[0] == 10


def test_an_error_that_cannot_be_known_is_shown_as_such():
    assert format_error(float("nan")) == "unknown"
    assert format_error(0.01234) == "0.0123"


@pytest.mark.parametrize("verb", ["plan", "run"])
def test_a_rank_slice_that_near_duplicates_emptied_is_refused_with_the_cause(capsys, project, verb):
    path = project / "data" / "eval.parquet"
    table = parquet.read_table(path).to_pydict()
    table["source"] = [f"d{i}" for i in range(len(table["text"]))]
    table["text"] = ["the same text in all of them"] * len(table["text"])
    parquet.write_table(pa.table(table), path)
    edit_recipe(project, "id: id}", "id: id, cluster: source}")
    status, _, err = call(capsys, verb, project / "recipe.yaml")
    assert (status, "E-DATA" in err) == (10, True)
    assert "rank 0, select 0, gate " in err
    assert "of its examples were left out, as they nearly repeat one of another slice" in err
    assert "a cluster is never split" not in err


def test_one_signature_in_every_text_empties_no_slice(capsys, project):
    path = project / "data" / "eval.parquet"
    table = parquet.read_table(path).to_pydict()
    signature = "sent from my phone please excuse the brevity of this message and its typos"
    own = [" ".join(f"w{i}x{j}" for j in range(20)) for i in range(len(table["text"]))]
    table["text"] = [f"{text} {more} {signature}" for text, more in
                     zip(table["text"], own, strict=True)]  # fmt: skip
    parquet.write_table(pa.table(table), path)
    assert plan(capsys, project)[0] == 0
