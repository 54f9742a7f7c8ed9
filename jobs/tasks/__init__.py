"""One file a kind of task: its columns, its examples."""

from jobs.tasks.text_classification import EvaluationTask, Examples, load_examples

# How examples of a kind are read.
TASKS = {"text-classification": load_examples}

__all__ = ["TASKS", "EvaluationTask", "Examples", "load_examples"]
