"""What follows a run however it ended. Nothing here can change or fail the run."""

import os
from typing import TYPE_CHECKING

from cluster.errors import ClusterError
from cluster.stores.open_store import open_store
from jobs.console.show import warn

if TYPE_CHECKING:
    from jobs.recipes.recipe import Recipe
    from jobs.run.request import RunResult


def follow_up(recipe: "Recipe", logical_date: str, end: "RunResult | Exception") -> None:
    """Bring the history of the output up to date and tell people; problems are said on stderr.

    Where a run was refused before the first of an output began, nothing is written there.

    Args:
        recipe: recipe of the run.
        logical_date: logical date of the run.
        end: how the run ended, or the error that ended it.
    """
    if not isinstance(end, Exception) or _has_runs(recipe.output):
        keep_history_of(recipe.output)
    _tell(recipe, logical_date, end)


def _has_runs(output: str) -> bool:
    try:
        return next(iter(open_store(output).list("runs/")), None) is not None
    except ClusterError:  # what is wrong with it was said by the run
        return False


def tell_for_the_driver(recipe: "Recipe", logical_date: str, error: Exception) -> None:
    """Tell of a driver that never began or was killed, if this process has the address."""
    if recipe.notify is not None and os.environ.get(recipe.notify.url_env):
        _tell(recipe, logical_date, error)


def keep_history_of(output: str) -> None:
    """Write history and index page of an output; a problem is said on stderr."""
    from jobs.operate.history import keep_history

    try:
        keep_history(open_store(output))
    except Exception as error:  # noqa: BLE001  # the run has ended, and that must stand
        text = str(error).partition("\n")[0]
        warn(f"the history was not written: {text}; metafuse history {output} --write")


def _tell(recipe: "Recipe", logical_date: str, end: "RunResult | Exception") -> None:
    try:
        from jobs.notify.notify import tell

        tell(recipe, logical_date, end)
    except Exception as error:  # noqa: BLE001  # as above; its text might hold the address
        warn(f"nobody was told: {type(error).__name__}")
