import pyarrow as pa
import pytest
from pyarrow import parquet

from jobs.cli.main import main
from jobs.commands.evaluate import slice_data
from jobs.errors import DataError
from jobs.recipes.recipe import load_recipe
from jobs.run.prepare import make_task
from jobs.tasks.examples import load_examples
from jobs.tasks.slicing import read_slices
from tests.support.calling import call, edit_recipe
from tests.support.tiny_lstm import write_data

SLICES = "slices: {rank: 0.4, select: 0, gate: 0.5, audit: 0.1}"


def test_a_slice_without_a_share_is_refused_before_a_worker_starts(capsys, project):
    recipe = project / "recipe.yaml"
    recipe.write_text(recipe.read_text().replace("  columns:", f"  {SLICES}\n  columns:"))
    address = "127.0.0.1:1"  # no Ray is there, and none is asked for
    with pytest.raises(SystemExit) as left:
        main(["evaluate", str(project / "candidates" / "a"), "--task", str(recipe), "--slice",
              "select", "--address", address])  # fmt: skip
    assert left.value.code == 10
    assert "no example is in slice select, whose share is 0" in capsys.readouterr().err


def test_a_slice_that_does_not_exist_comes_with_the_one_that_may_be_meant(capsys, project):
    arguments = ("evaluate", project / "candidates" / "a", "--task", project / "recipe.yaml")
    status, _, err = call(capsys, *arguments, "--slice", "gates")
    assert (status, "audit; did you mean 'gate'?" in err) == (2, True)


def test_a_slice_that_got_no_example_by_chance_is_refused_too(project):
    write_data(project / "data" / "eval.parquet", count=40)
    recipe = project / "recipe.yaml"
    rare = SLICES.replace("0.1}", "0.001}").replace("0.4", "0.499")
    recipe.write_text(recipe.read_text().replace("  columns:", f"  {rare}\n  columns:"))
    with pytest.raises(DataError, match=r"slice audit, whose share is 0\.001"):
        slice_data(make_task(load_recipe(recipe)), "audit", str(project / "cache"))


def test_a_slice_that_near_duplicates_emptied_is_refused_with_the_cause(project):
    path = project / "data" / "eval.parquet"
    table = parquet.read_table(path).to_pydict()
    table["source"] = [f"d{i}" for i in range(len(table["text"]))]
    table["text"] = ["the same text in all of them"] * len(table["text"])
    parquet.write_table(pa.table(table), path)
    edit_recipe(project, "id: id}", "id: id, cluster: source}")
    task = make_task(load_recipe(project / "recipe.yaml"))
    with pytest.raises(DataError, match=r"slice rank, whose share is 0.3; \d+ nearly repeat one"):
        slice_data(task, "rank", str(project / "cache"))


def test_the_evaluations_of_a_command_read_one_slicing(project):
    made = make_task(load_recipe(project / "recipe.yaml"))
    task = slice_data(made, "gate", str(project / "cache"))
    sliced = load_examples(made).sliced
    parquet.write_table(
        pa.table({"id": sliced.ids, "cluster": sliced.clusters, "slice": sliced.names}),
        project / "same.parquet",
    )
    (path,) = (project / "cache").rglob("slices.parquet")
    assert parquet.read_table(path).equals(parquet.read_table(project / "same.parquet"))
    assert read_slices(task.slices) == load_examples(task).sliced == sliced
