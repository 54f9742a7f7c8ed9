"""Baselines of a run: models made for comparison only, deleted once the run is judged."""

from jobs.outputs.run_folder import RunFolder

BASELINE = "baseline"


def delete_baselines(folder: RunFolder) -> None:
    """Remove the models that a run made for comparison only. Safe to repeat."""
    for entry in list(folder.store.list(folder.key(f"{BASELINE}-"))):
        folder.store.delete(entry.key)
