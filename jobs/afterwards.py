"""What follows a run however it ended. Nothing here can change or fail the run."""

from cluster.store import open_store
from jobs.console import warn
from jobs.recipe import Recipe


def follow_up(recipe: Recipe) -> None:
    """Bring the history of the output up to date; what goes wrong is said on stderr."""
    from jobs.history import keep_history

    try:
        keep_history(open_store(recipe.output))
    except Exception as error:  # noqa: BLE001  # the run has ended, and that must stand
        text = str(error).partition("\n")[0]
        warn(f"the history was not written: {text}; metafuse history {recipe.output} --write")
