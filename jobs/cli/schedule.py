"""The verbs of the command line that make nights of a recipe: run, list, export."""

from pathlib import Path
from typing import Literal

import click

from jobs.cli.group import Verbs, cli, finish, json_option

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


@cli.group(cls=Verbs)
def schedule() -> None:
    """Run a recipe every night by its `schedule:` block, look at the nights, export units."""


@schedule.command(name="run")
@recipe_argument
@cluster_option
@state_option
@click.option("--once", "is_once", is_flag=True, help="See through what is due now, then leave.")
@click.option(
    "--plain-status",
    is_flag=True,
    help="Leave with 0 instead of 3, 4 and 5, for callers that know success and failure only.",
)
def run_schedule(
    recipe: Path, address: str | None, state_uri: str | None, is_once: bool, plain_status: bool
) -> None:
    """Wait for the nights of RECIPE and run each as `metafuse run` or `submit`; never ends.

    One JSON line a decision on stdout; what the nights print goes to stderr. Any number of
    schedulers may run at once, and be stopped and started: each logical date is run once. With
    --once, for cron, timers and CronJobs, the exit status is that of the night, and 0 if none is
    due.
    """
    from jobs.commands.schedule import run_nights

    finish(
        lambda: run_nights(
            recipe, address=address, state_uri=state_uri, is_once=is_once, is_plain=plain_status
        ),
        as_json=False,
    )


@schedule.command(name="list")
@recipe_argument
@state_option
@click.option("--count", default=5, show_default=True, type=click.IntRange(1, 1000), help="Ticks.")
@json_option
def list_schedule(recipe: Path, state_uri: str | None, count: int, as_json: bool) -> None:
    """Show when RECIPE runs next, and how its last nights ended, missed ones too."""
    from jobs.commands.schedule import list_nights

    finish(
        lambda: list_nights(recipe, state_uri=state_uri, count=count, as_json=as_json),
        as_json=as_json,
    )


@schedule.command(name="export")
@recipe_argument
@click.option(
    "--kind",
    required=True,
    type=click.Choice(["kubernetes", "kuberay", "systemd", "crontab"]),
    help="CronJob, RayCronJob (alpha), timer and service, or a line for cron.",
)
@click.option("--out", type=click.Path(path_type=Path), help="Folder; default: print.")
@click.option("--image", metavar="IMAGE", help="With metafuse; default: example.org/metafuse.")
@cluster_option
@json_option
def export_schedule(
    recipe: Path,
    kind: Literal["kubernetes", "kuberay", "systemd", "crontab"],
    out: Path | None,
    image: str | None,
    address: str | None,
    as_json: bool,
) -> None:
    """Write units that start the nights of RECIPE without a scheduler that is kept alive."""
    from jobs.commands.schedule import export_nights

    finish(
        lambda: export_nights(recipe, kind, out=out, image=image, address=address, as_json=as_json),
        as_json=as_json,
    )
