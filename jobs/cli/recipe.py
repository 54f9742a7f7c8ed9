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


@cli.command()
@click.argument("places", metavar="FOLDER...", nargs=-1, required=True)
@click.option(
    "--data", metavar="FILE", multiple=True, help="Labelled examples; twice for several files."
)
@click.option("--base", metavar="PATH", help="Model that adapters among the candidates change.")
@click.option("--output", metavar="PLACE", help="Folder or prefix that the recipe's runs go to.")
@click.option(
    "--write", "target", metavar="FILE", default="recipe.yaml", show_default=True,
    help="File to write, which must not exist; - for stdout.",
)  # fmt: skip
def init(
    places: tuple[str, ...], data: tuple[str, ...], base: str | None, output: str | None,
    target: str,
) -> None:  # fmt: skip
    """Look at candidates and data, and write a first recipe with comments.

    Each FOLDER is a checkpoint, a folder or prefix of checkpoints, or a pattern.
    """
    from jobs.commands.first_recipe import Wanted
    from jobs.commands.init import write_first_recipe

    wanted = Wanted(places, data, base, output)
    finish(lambda: write_first_recipe(wanted, target), as_json=False)
