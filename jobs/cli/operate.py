"""The operator's verbs of the command line: look, steer the pointer, verify, clean up."""

import click

from jobs.cli.group import check_output_word, cli, finish, json_option, output_argument

single_writer_option = click.option(
    "--single-writer",
    is_flag=True,
    help="On a store without conditional writes: I see to it that nothing else writes there.",
)
reason_option = click.option(
    "--reason", required=True, metavar="TEXT", help="Why; kept with the pointer."
)
dry_run_option = click.option(
    "--dry-run", "is_dry_run", is_flag=True, help="Look and verify; write nothing."
)


@cli.command()
@click.argument("target", metavar="OUTPUT|SUBMISSION", required=False, callback=check_output_word)
@click.option("--run", "run_name", metavar="RUN", help="Which run to tell about; default: last.")
@click.option(
    "--watch", default=7.0, show_default=True, help="Seconds to watch a held lease's heartbeat."
)
@click.option(
    "--follow", "is_followed", is_flag=True, help="A line every 10 s until the run has ended."
)
@click.option("--address", metavar="URL", help="Jobs API of a Ray cluster, http://head:8265.")
@json_option
def status(
    target: str | None,
    run_name: str | None,
    watch: float,
    is_followed: bool,
    address: str | None,
    as_json: bool,
) -> None:
    """Show what is promoted in OUTPUT and why, who writes, and how far a run is.

    Everything comes from storage, so it works from any machine that can read OUTPUT: units, bytes,
    GB/s, time left, workers, retries, the slowest unit. With --address it is the cluster that is
    asked, for the job SUBMISSION, or for all its jobs. Exits 11 where latest.json was removed.
    """

    def work() -> int:
        if address is not None:
            if is_followed:
                from jobs.errors import UsageError

                raise UsageError("--follow looks at an OUTPUT; metafuse logs --follow at a job")
            from jobs.commands.submit import show_job

            return show_job(target, address, as_json=as_json)
        if target is None:
            from jobs.errors import UsageError

            raise UsageError("OUTPUT is missing, or --address for the jobs of a cluster")
        from jobs.commands.status import show_status

        return show_status(
            target, run_name, watch_seconds=watch, is_followed=is_followed, as_json=as_json
        )

    finish(work, as_json=as_json)


@cli.command()
@output_argument
@click.option(
    "--within", metavar="AGE", help="Only runs that ended within AGE, such as 26h; exit 3 for none."
)
@click.option("--last", default=30, show_default=True, help="How many to show; 0 for all.")
@click.option(
    "--write", "is_written", is_flag=True, help="Write history.parquet and index.html anew."
)
@json_option
def history(output: str, within: str | None, last: int, is_written: bool, as_json: bool) -> None:
    """List the runs of OUTPUT: how each ended, its gain and losses, time and bytes.

    Every run keeps OUTPUT/history.parquet and the page OUTPUT/index.html, which links to the
    reports. An alert on a night that is missing: `metafuse history OUTPUT --within 26h || page`.
    """
    from jobs.commands.history import show_history

    finish(
        lambda: show_history(
            output, within=within, last=last, is_written=is_written, as_json=as_json
        ),
        as_json=as_json,
    )


@cli.command()
@output_argument
@click.argument("run_name", metavar="RUN")
@reason_option
@dry_run_option
@single_writer_option
@json_option
def promote(
    output: str, run_name: str, reason: str, is_dry_run: bool, single_writer: bool, as_json: bool
) -> None:
    """Promote the model of a finished RUN by hand, whatever the gate said.

    The model is verified first. A hold stays; a date that was promoted before is never promoted by
    a run again.
    """
    from jobs.commands.operate import run_promote

    finish(
        lambda: run_promote(
            output, run_name, reason=reason, is_dry_run=is_dry_run,
            single_writer=single_writer, as_json=as_json,
        ),
        as_json=as_json,
    )  # fmt: skip


@cli.command()
@output_argument
@click.option("--to", metavar="RUN", help="Default: the run that the current one replaced.")
@reason_option
@dry_run_option
@single_writer_option
@json_option
def rollback(
    output: str, to: str | None, reason: str, is_dry_run: bool, single_writer: bool, as_json: bool
) -> None:
    """Go back to a model that was promoted before, and hold promotions there.

    The model is verified first; only the pointer moves, nothing is copied. Tonight's run will still
    judge and report, but not promote, until `metafuse unhold OUTPUT`.
    """
    from jobs.commands.operate import run_rollback

    finish(
        lambda: run_rollback(
            output, to, reason=reason, is_dry_run=is_dry_run,
            single_writer=single_writer, as_json=as_json,
        ),
        as_json=as_json,
    )  # fmt: skip


@cli.command()
@output_argument
@reason_option
@single_writer_option
@json_option
def hold(output: str, reason: str, single_writer: bool, as_json: bool) -> None:
    """Keep runs from promoting in OUTPUT until `unhold`; they still judge and report."""
    from jobs.commands.operate import run_hold

    finish(
        lambda: run_hold(output, reason=reason, single_writer=single_writer, as_json=as_json),
        as_json=as_json,
    )


@cli.command()
@output_argument
@click.option("--reason", default="", metavar="TEXT", help="Why; kept with the pointer.")
@single_writer_option
@json_option
def unhold(output: str, reason: str, single_writer: bool, as_json: bool) -> None:
    """Let runs promote in OUTPUT again."""
    from jobs.commands.operate import run_unhold

    finish(
        lambda: run_unhold(output, reason=reason, single_writer=single_writer, as_json=as_json),
        as_json=as_json,
    )


@cli.command()
@click.argument("target")
@click.option("--run", "run_name", metavar="RUN", help="A run of OUTPUT; default: the promoted.")
@click.option("--sample", default="5%", show_default=True, help="Share of the units to read.")
@click.option("--all", "is_all", is_flag=True, help="Read everything.")
@click.option("--seed", default="", metavar="TEXT", help="Which units; default: today's date.")
@json_option
def verify(
    target: str, run_name: str | None, sample: str, is_all: bool, seed: str, as_json: bool
) -> None:
    """Compare a stored model with its manifest: TARGET is an OUTPUT, or a model's own URI.

    Manifests, sizes and small files are always compared; of the large ones whole units are read,
    chosen by a hash of the seed. Exit status 0 if all is good, 11 with what differs.
    """
    from jobs.commands.operate import parse_share, run_verify

    finish(
        lambda: run_verify(
            target, run_name, share=1.0 if is_all else parse_share(sample), seed=seed,
            as_json=as_json,
        ),
        as_json=as_json,
    )  # fmt: skip


@cli.command(name="gc")
@click.argument("target", metavar="OUTPUT|RECIPE")
@click.option(
    "--keep",
    type=click.IntRange(0),
    help="Models promoted before the current one that stay; default: the recipe's, else 3.",
)
@click.option(
    "--older-than", metavar="AGE", help="Leave younger runs alone; default: the recipe's, else 7d."
)
@click.option("--reason", default="clean up", show_default=True, metavar="TEXT")
@dry_run_option
@single_writer_option
@json_option
def collect_garbage(
    target: str,
    keep: int | None,
    older_than: str | None,
    reason: str,
    is_dry_run: bool,
    single_writer: bool,
    as_json: bool,
) -> None:
    """Remove what runs left and nobody needs: dead uploads, ledgers, old models, cached scores.

    What the pointer, its recent history or a hold needs stays, and so do live runs, and all
    reports, manifests and the scores in the folders of runs. A recipe names its output and may
    say `retention: {keep: 7, older_than: 14d}`. Try --dry-run first.
    """
    from jobs.commands.gc import find_sweep, run_gc

    finish(
        lambda: run_gc(
            find_sweep(target, keep, older_than, single_writer=single_writer),
            reason=reason, is_dry_run=is_dry_run, as_json=as_json,
        ),
        as_json=as_json,
    )  # fmt: skip
