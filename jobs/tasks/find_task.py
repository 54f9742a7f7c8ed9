"""The kinds of task by name, and those of users by import string."""

import importlib
from collections.abc import Mapping

from jobs.errors import RecipeError
from jobs.tasks.contract import Task
from jobs.tasks.multi_label import MULTI_LABEL
from jobs.tasks.regression import REGRESSION
from jobs.tasks.text_classification import TEXT_CLASSIFICATION

TASKS: Mapping[str, Task] = {
    task.spec.kind: task for task in (TEXT_CLASSIFICATION, MULTI_LABEL, REGRESSION)
}
HINT = (
    "install its module, or put the module's folder into PYTHONPATH; on a cluster every worker "
    "needs it"
)


def find_task(kind: str) -> Task:
    """The task of a kind; a user's module is imported.

    Args:
        kind: a name in TASKS, or module:NAME.

    Raises:
        RecipeError: the kind cannot be imported, or is not a Task.
    """
    if kind in TASKS:
        return TASKS[kind]
    module, _, name = kind.partition(":")
    try:
        found = getattr(importlib.import_module(module), name)
    except Exception as error:
        raise RecipeError(
            f"task.kind: {kind} cannot be imported: {str(error) or type(error).__name__}. Nothing "
            "was evaluated.",
            HINT,
        ) from error
    if not isinstance(found, Task):
        raise RecipeError(
            f"task.kind: {kind} is a {type(found).__name__}, a jobs.tasks.contract.Task is needed. "
            "Nothing was evaluated.",
            f"name the Task in {module}, as {module}:NAME",
        )
    return found
