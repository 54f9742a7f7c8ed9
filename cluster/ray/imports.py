"""Whose packages the workers import: Ray puts the driver's working directory before ours."""

import importlib
import sys
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import cluster

PACKAGES = ("jobs", "fusion", "cluster")
ROOT = Path(str(cluster.__file__)).resolve().parent.parent


def keep_ours() -> dict[str, Any]:
    """The runtime environment in which workers import our packages, where another would win.

    Empty where nothing of their names stands in the folders that Ray puts first: a worker with an
    environment of its own starts a second later.
    """
    folders = {Path.cwd(), Path(sys.argv[0]).resolve().parent} - {ROOT}
    if not any(_holds(folder, PACKAGES) for folder in folders):
        return {}
    return {"worker_process_setup_hook": _importer(str(ROOT), PACKAGES)}


def _holds(folder: Path, names: Iterable[str]) -> bool:
    return any((folder / name).is_dir() or (folder / f"{name}.py").exists() for name in names)


def _importer(root: str, names: tuple[str, ...]) -> Callable[[], None]:
    """What a worker does before Ray changes its path; it travels by value, as a closure does."""

    def import_ours() -> None:
        sys.path.insert(0, root)
        for name in names:
            importlib.import_module(name)
        sys.path.remove(root)

    return import_ours
