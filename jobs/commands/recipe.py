"""What the verbs around the recipe itself do."""

from jobs.console.show import show, show_json
from jobs.errors import UsageError
from jobs.recipes.reference import explain, find_keys, read_keys, recipe_schema


def show_recipe_keys(key: str | None, *, is_schema: bool) -> int:
    """`metafuse recipe`."""
    if is_schema and key is not None:
        raise UsageError("--schema and --explain: one of them")
    if is_schema:
        show_json(recipe_schema())
        return 0
    show("\n".join(explain(each) for each in (read_keys() if key is None else find_keys(key))))
    return 0
