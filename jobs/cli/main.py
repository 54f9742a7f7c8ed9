"""Run a command line: every error as one message and its exit status."""

import sys
from typing import Any

import click

from jobs.cli.group import cli, finish


def main(arguments: list[str] | None = None) -> Any:
    """Entry point of the console script."""
    import signal

    # A verb exists once its file is imported.
    import jobs.cli.consume
    import jobs.cli.merge
    import jobs.cli.operate
    import jobs.cli.recipe
    import jobs.cli.run
    import jobs.cli.schedule
    import jobs.cli.submit  # noqa: F401  # those of a Ray cluster
    from jobs.cli.signals import interrupt

    signal.signal(signal.SIGINT, interrupt)
    signal.signal(signal.SIGTERM, interrupt)
    given = sys.argv[1:] if arguments is None else arguments
    try:
        sys.exit(cli(args=given, prog_name="metafuse", standalone_mode=False))
    except click.ClickException as error:
        error.show()
        if "--json" in given:
            from jobs.console.show import show_json

            said = {"error": "E-USAGE", "message": error.format_message(), "hint": ""}
            show_json({**said, "exit_status": error.exit_code})
        sys.exit(error.exit_code)
    except (click.Abort, KeyboardInterrupt):
        finish(_interrupted, as_json="--json" in given)


def _interrupted() -> int:
    raise KeyboardInterrupt
