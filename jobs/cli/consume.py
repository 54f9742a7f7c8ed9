"""Verbs of those who use a model: predict, resolve, pull, report."""

from pathlib import Path
from typing import Any

import click

from jobs.cli.group import cli, finish, json_option, output_argument


@cli.command()
@click.argument("models", nargs=-1, required=True)
@click.option("--text", "texts", multiple=True, help="Text to ask; default: lines of stdin.")
@click.option(
    "--input", "source", metavar="FILE", help="Ask a text a row: Parquet, CSV, TSV or JSON."
)
@click.option(
    "--column",
    "columns",
    metavar="NAME",
    multiple=True,
    default=("text",),
    help="Column of the texts in FILE; twice for models of two texts. Default: text.",
)
@click.option(
    "--output",
    metavar="FILE",
    help="Write a row an answer to a .parquet, .csv or .jsonl file; default: lines on stdout.",
)
@click.option("--base", metavar="PATH", help="Model that adapters among MODELS change.")
@click.option(
    "--json", "as_json", is_flag=True, help="Print one JSON object a line, with its number."
)
def predict(models: tuple[str, ...], base: str | None, **given: Any) -> None:
    """Ask a checkpoint, an output's promoted model, or several MODELS as an ensemble.

    Answers come in the order of the texts, one a line; a blank line stays a line.
    """
    from jobs.commands.consume import Exchange, run_predict

    files, as_json = Exchange(given["source"], given["columns"], given["output"]), given["as_json"]
    finish(
        lambda: run_predict(models, given["texts"], base=base, as_json=as_json, files=files),
        as_json=as_json,
    )


@cli.command()
@output_argument
@click.option("--verify", "with_bytes", is_flag=True, help="Read every byte and check its digest.")
@json_option
def resolve(output: str, with_bytes: bool, as_json: bool) -> None:
    """Print the URI of the model that is promoted in OUTPUT.

    Its manifests, their digests and the sizes of its files are checked; the bytes with --verify.
    """
    from jobs.commands.consume import show_resolved

    finish(lambda: show_resolved(output, with_bytes=with_bytes, as_json=as_json), as_json=as_json)


@cli.command()
@output_argument
@click.argument("folder", type=click.Path(path_type=Path))
@json_option
def pull(output: str, folder: Path, as_json: bool) -> None:
    """Bring the promoted model of OUTPUT to FOLDER, verified."""
    from jobs.commands.consume import run_pull

    finish(lambda: run_pull(output, folder, as_json=as_json), as_json=as_json)


@cli.command()
@output_argument
@click.option("--run", "run_name", metavar="RUN", help="Which run; default: the promoted one.")
@click.option("--write", "folder", type=click.Path(path_type=Path), help="Copy the files here.")
@json_option
def report(output: str, run_name: str | None, folder: Path | None, as_json: bool) -> None:
    """Show the report of a run in OUTPUT, or copy its files."""
    from jobs.commands.consume import show_report

    finish(lambda: show_report(output, run_name, folder, as_json=as_json), as_json=as_json)
