"""The verbs of the command line that speak to a Ray cluster over its Jobs API."""

from pathlib import Path

import click

from jobs.cli.group import cli, finish, json_option

jobs_address_option = click.option(
    "--address",
    metavar="URL",
    help="Jobs API of the cluster, http://head:8265; default: RAY_API_SERVER_ADDRESS, RAY_ADDRESS.",
)
code_option = click.option(
    "--ship-code/--image",
    "with_code",
    default=True,
    help="This metafuse travels with the job, or the hosts have it installed; default: travels.",
)


@cli.command()
@click.argument("recipe", type=click.Path(path_type=Path))
@jobs_address_option
@click.option("--date", "logical_date", metavar="DATE", help="Logical date; default: today, UTC.")
@click.option("--submission-id", metavar="ID", help="Default: RECIPE-DATE-s1, -s2 ...")
@click.option(
    "--runtime-env",
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="Ray runtime environment, YAML or JSON; no secrets.",
)
@code_option
@click.option(
    "--entrypoint-num-cpus",
    "num_cpus",
    type=click.FloatRange(0),
    default=0.0,
    help="CPUs for the driver, on any host; default: none, on the head.",
)
@click.option("--no-wait", is_flag=True, help="Leave once it is submitted.")
@json_option
def submit(
    recipe: Path,
    address: str | None,
    logical_date: str | None,
    submission_id: str | None,
    runtime_env: Path | None,
    with_code: bool,
    num_cpus: float,
    no_wait: bool,
    as_json: bool,
) -> None:
    """Run RECIPE as a job of a Ray cluster and wait; leaves with the run's exit status.

    The same command joins a job that is running, and continues a run that was interrupted. Ctrl-C
    ends the waiting, not the job. As nobody watches, alpha is .005 where RECIPE gives none.

    The cluster's token is taken from RAY_AUTH_TOKEN, the file named by RAY_AUTH_TOKEN_PATH, or
    ~/.ray/auth_token.
    """
    from jobs.commands.submit import SubmitOptions, run_submit

    options = SubmitOptions(
        logical_date, submission_id or "", runtime_env, with_code, num_cpus, not no_wait
    )
    finish(lambda: run_submit(recipe, address, options=options, as_json=as_json), as_json=as_json)


@cli.command()
@click.argument("submission")
@jobs_address_option
@click.option("--follow", "-f", is_flag=True, help="Go on until the job has ended.")
@json_option
def logs(submission: str, address: str | None, follow: bool, as_json: bool) -> None:
    """Show what the driver of the job SUBMISSION has printed.

    With --follow it is shown to the end, and the exit status is the job's.
    """
    from jobs.commands.submit import show_logs

    finish(
        lambda: show_logs(submission, address, is_following=follow, as_json=as_json),
        as_json=as_json,
    )


@cli.command()
@click.argument("submission")
@jobs_address_option
@click.option("--reason", default="", metavar="TEXT", help="Why; said on stderr.")
@json_option
def stop(submission: str, address: str | None, reason: str, as_json: bool) -> None:
    """End the job SUBMISSION. What the run wrote is kept; submitting it again continues.

    Exit status 0 once it has ended, whether by this or before.
    """
    from jobs.commands.submit import run_stop

    finish(lambda: run_stop(submission, address, reason=reason, as_json=as_json), as_json=as_json)


@cli.command()
@click.argument("output", required=False)
@click.option(
    "--address",
    metavar="ADDRESS",
    help="A Ray cluster: http://head:8265 from outside, host:port or auto from within.",
)
@click.option(
    "--recipe", type=click.Path(path_type=Path), help="Its resources, output and sources too."
)
@code_option
@json_option
def doctor(
    output: str | None,
    address: str | None,
    recipe: Path | None,
    with_code: bool,
    as_json: bool,
) -> None:
    """Look at this machine and, if given, at what the store of OUTPUT can do.

    With --address at a cluster: who may submit jobs, versions on every host, whether every host
    reaches the output and the sources, and whether some host has what the recipe asks for. From
    outside a small job looks, and is deleted. Exit status 21 or, with --address, 40 if anything is
    to be looked at.
    """
    from jobs.commands.doctor import run_doctor

    finish(
        lambda: run_doctor(output, address, recipe=recipe, with_code=with_code, as_json=as_json),
        as_json=as_json,
    )
