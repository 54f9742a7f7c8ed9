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
