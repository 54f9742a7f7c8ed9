"""Verbs around the recipe itself."""

import click

from jobs.cli.group import cli, finish


@cli.command()
@click.option("--explain", "key", metavar="KEY", help="One key, such as weights.temperature.")
@click.option("--schema", "is_schema", is_flag=True, help="The JSON schema, for editors.")
def recipe(key: str | None, is_schema: bool) -> None:
    """Say what the keys of a recipe mean: type, default, effect and an example of each."""
    from jobs.commands.recipe import show_recipe_keys

    finish(lambda: show_recipe_keys(key, is_schema=is_schema), as_json=False)
