"""Run a recipe in this process, without Ray."""

from cluster.runner import SerialRunner
from jobs.pipeline import RunRequest, RunResult, run_recipe
from jobs.recipe import load_recipe


def run_project(folder, date="2026-11-24", runner=None, **changes) -> RunResult:
    recipe = load_recipe(folder / "recipe.yaml")
    values = {
        "recipe": recipe,
        "logical_date": date,
        "make_runner": lambda: runner or SerialRunner(),
        "eval_workers": 2,
        "merge_workers": 2,
        "say": lambda *_: None,
    }
    return run_recipe(RunRequest(**{**values, **changes}))
