"""Verbs of the main job: demo, plan, run, evaluate."""

from pathlib import Path

import click

from jobs.cli.group import address_option, cli, finish, json_option


@cli.command()
@click.argument("folder", required=False, type=click.Path(path_type=Path))
@click.option("--seed", default=0, show_default=True, help="Of the training.")
@json_option
def demo(folder: Path | None, seed: int, as_json: bool) -> None:
    """Train small models on real text, fuse them, judge the result, write a report."""
    from jobs.commands.run import run_demo

    finish(lambda: run_demo(folder, seed=seed, as_json=as_json), as_json=as_json)


@cli.command()
@click.argument("recipe", type=click.Path(path_type=Path))
@json_option
def plan(recipe: Path, as_json: bool) -> None:
    """Check RECIPE and its candidates by their headers; show bytes, memory and money."""
    from jobs.commands.run import show_plan

    finish(lambda: show_plan(recipe, as_json=as_json), as_json=as_json)


@cli.command()
@click.argument("recipe", type=click.Path(path_type=Path))
@click.option("--date", "logical_date", metavar="DATE", help="Logical date; default: today, UTC.")
@address_option
@click.option(
    "--unattended",
    is_flag=True,
    help="Nobody watches, as under submit and schedule: alpha .005 where RECIPE gives none.",
)
@json_option
def run(
    recipe: Path, logical_date: str | None, address: str | None, unattended: bool, as_json: bool
) -> None:
    """Evaluate, weigh, merge, judge, promote. The same command continues an interrupted run.

    METAFUSE_LOG=json in the environment makes stderr JSON lines with run, unit and host, here and
    in the logs of Ray's workers.
    """
    from jobs.commands.run import run_main

    finish(
        lambda: run_main(
            recipe, logical_date=logical_date, address=address, is_unattended=unattended,
            as_json=as_json,
        ),
        as_json=as_json,
    )  # fmt: skip


@cli.command()
@click.argument("checkpoints", nargs=-1, required=True)
@click.option(
    "--task", "task", required=True, type=click.Path(path_type=Path), help="Recipe with the task."
)
@click.option("--slice", "slice_name", default="gate", show_default=True)
@address_option
@json_option
def evaluate(
    checkpoints: tuple[str, ...], task: Path, slice_name: str, address: str | None, as_json: bool
) -> None:
    """Score CHECKPOINTS on the task of a recipe, without merging."""
    from jobs.commands.evaluate import run_evaluate

    finish(
        lambda: run_evaluate(
            checkpoints, task, slice_name=slice_name, address=address, as_json=as_json
        ),
        as_json=as_json,
    )
