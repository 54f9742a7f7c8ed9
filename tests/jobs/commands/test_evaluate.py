import pytest

from jobs.cli.main import main
from jobs.commands.evaluate import check_slice
from jobs.errors import DataError
from jobs.recipes.recipe import load_recipe
from jobs.run.prepare import make_task
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


def test_a_slice_that_got_no_example_by_chance_is_refused_too(project):
    write_data(project / "data" / "eval.parquet", count=40)
    recipe = project / "recipe.yaml"
    rare = SLICES.replace("0.1}", "0.001}").replace("0.4", "0.499")
    recipe.write_text(recipe.read_text().replace("  columns:", f"  {rare}\n  columns:"))
    with pytest.raises(DataError, match=r"slice audit, whose share is 0\.001"):
        check_slice(make_task(load_recipe(recipe)), "audit")
