"""Verbs of those who use a model: predict, resolve, pull, report."""

from pathlib import Path

import click

from jobs.cli.group import cli, finish, json_option


@cli.command()
@click.argument("models", nargs=-1, required=True)
@click.option("--text", "texts", multiple=True, help="Text to ask; default: lines of stdin.")
@click.option("--base", metavar="PATH", help="Model that adapters among MODELS change.")
@json_option
def predict(
    models: tuple[str, ...], texts: tuple[str, ...], base: str | None, as_json: bool
) -> None:
    """Ask a checkpoint, an output's promoted model, or several MODELS as an ensemble."""
    from jobs.commands.consume import run_predict

    finish(lambda: run_predict(models, texts, base=base, as_json=as_json), as_json=as_json)


@cli.command()
@click.argument("output")
@click.option("--verify", "with_bytes", is_flag=True, help="Read every byte and check its digest.")
@json_option
def resolve(output: str, with_bytes: bool, as_json: bool) -> None:
    """Print the URI of the model that is promoted in OUTPUT.

    Its manifests, their digests and the sizes of its files are checked; the bytes with --verify.
    """
    from jobs.commands.consume import show_resolved

    finish(lambda: show_resolved(output, with_bytes=with_bytes, as_json=as_json), as_json=as_json)


@cli.command()
@click.argument("output")
@click.argument("folder", type=click.Path(path_type=Path))
@json_option
def pull(output: str, folder: Path, as_json: bool) -> None:
    """Bring the promoted model of OUTPUT to FOLDER, verified."""
    from jobs.commands.consume import run_pull

    finish(lambda: run_pull(output, folder, as_json=as_json), as_json=as_json)


@cli.command()
@click.argument("output")
@click.option("--run", "run_name", metavar="RUN", help="Which run; default: the promoted one.")
@click.option("--write", "folder", type=click.Path(path_type=Path), help="Copy the files here.")
@json_option
def report(output: str, run_name: str | None, folder: Path | None, as_json: bool) -> None:
    """Show the report of a run in OUTPUT, or copy its files."""
    from jobs.commands.consume import show_report

    finish(lambda: show_report(output, run_name, folder, as_json=as_json), as_json=as_json)
