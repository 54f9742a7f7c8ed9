"""The runtime environment of a submitted job: what the user asks for, without secrets in it."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from jobs.console.secret_texts import SECRET_VALUE, is_secret_name
from jobs.errors import RecipeError
from jobs.recipes.strict_yaml import load_yaml, read_text

OURS = ("working_dir", "py_modules")
# Every user who may list a cluster's jobs can read their runtime environments; logs hold them too.
HINT = (
    "give the hosts a role, or put it into the container's environment from a Kubernetes secret "
    "or a file that only they can read; jobs find it there"
)


def load_runtime_env(path: Path) -> dict[str, Any]:
    """Read a runtime environment as Ray takes it, YAML or JSON.

    Raises:
        RecipeError: the file is no mapping, holds what looks like a secret, or sets what submit
            sets. The message repeats no value.
    """
    value = load_yaml(read_text(path), name=path.name).value
    if not isinstance(value, dict):
        raise RecipeError(f"{path.name}:1: a mapping was expected; nothing was submitted")
    taken = [name for name in OURS if name in value]
    if taken:
        raise RecipeError(
            f"{path.name}: {' and '.join(taken)} are set by submit itself; nothing was submitted",
            "put other code into the hosts' image",
        )
    found = list(find_secrets(value))
    if found:
        raise RecipeError(
            f"{path.name}: {', '.join(found)} may hold a secret; everybody who may list the jobs "
            "of the cluster could read it; nothing was submitted",
            HINT,
        )
    return value


def find_secrets(value: Any, place: str = "") -> Iterator[str]:
    """Places, as a.b.c, whose names or values look like secrets."""
    if isinstance(value, dict):
        for key, inner in value.items():
            yield from find_secrets(inner, f"{place}.{key}" if place else str(key))
    elif isinstance(value, list):
        for index, inner in enumerate(value):
            yield from find_secrets(inner, f"{place}.{index}")
    elif value not in (None, "") and _is_secret(place.rpartition(".")[2], str(value)):
        yield place


def _is_secret(name: str, value: str) -> bool:
    return bool(SECRET_VALUE.search(value)) or is_secret_name(name)
