"""The verbs of the command line that make nights of a recipe: run, list, export."""

from pathlib import Path

import click

from jobs.cli import cli, finish, json_option

recipe_argument = click.argument("recipe", type=click.Path(path_type=Path))
state_option = click.option(
    "--state",
    "state_uri",
    metavar="URI",
    help="Folder or s3:// URI of the schedulers' state; default: schedule/ in the output.",
)
cluster_option = click.option(
    "--address",
    metavar="ADDRESS",
    help="Jobs API (http://head:8265) to submit nights to, or Ray cluster to run them on; "
    "default: an embedded Ray.",
)


@cli.group()
def schedule() -> None:
    """Run a recipe every night by its `schedule:` block, look at the nights, export units."""


@schedule.command(name="run")
@recipe_argument
@cluster_option
@state_option
@click.option("--once", "is_once", is_flag=True, help="See through what is due now, then leave.")
def run_schedule(recipe: Path, address: str | None, state_uri: str | None, is_once: bool) -> None:
    """Wait for the nights of RECIPE and run each as `metafuse run` or `submit`; never ends.

    One JSON line a decision on stdout; what the nights print goes to stderr. Any number of
    schedulers may run at once, and be stopped and started: each logical date is run once. With
    --once, for cron, timers and CronJobs, the exit status is that of the night, and 0 if none is
    due.
    """
    from jobs.schedule_commands import run_nights

    finish(
        lambda: run_nights(recipe, address=address, state_uri=state_uri, is_once=is_once),
        as_json=False,
    )


@schedule.command(name="list")
@recipe_argument
@state_option
@click.option("--count", default=5, show_default=True, type=click.IntRange(1, 1000), help="Ticks.")
@json_option
def list_schedule(recipe: Path, state_uri: str | None, count: int, as_json: bool) -> None:
    """Show when RECIPE runs next, and how its last nights ended, missed ones too."""
    from jobs.schedule_commands import list_nights

    finish(
        lambda: list_nights(recipe, state_uri=state_uri, count=count, as_json=as_json),
        as_json=as_json,
    )
