"""Run a recipe in this process, without Ray."""

from cluster.workers.runner import SerialRunner
from jobs.console.figures import Steps
from jobs.recipes.recipe import load_recipe
from jobs.run.pipeline import run_recipe
from jobs.run.request import RunRequest, RunResult


def run_project(folder, date="2026-11-24", runner=None, **changes) -> RunResult:
    recipe = load_recipe(folder / "recipe.yaml")
    hear = changes.pop("say", lambda *_: None)
    values = {
        "recipe": recipe,
        "logical_date": date,
        "make_runner": lambda: runner or SerialRunner(),
        "eval_workers": 2,
        "merge_workers": 2,
        "say": Steps(hear),
    }
    return run_recipe(RunRequest(**{**values, **changes}))
