"""`metafuse merge` and the flags of mergekit-yaml."""

from collections.abc import Callable
from pathlib import Path
from typing import Literal

import click

from jobs.cli.group import cli, finish, json_option
from jobs.console.sizes import parse_shard_size
from jobs.mergekit.flags import SWITCHES, VALUES, read_flags


def mergekit_flags(command: Callable[..., None]) -> Callable[..., None]:
    """The flags of mergekit-yaml, hidden: they arrive as None where they are not given."""
    for name in SWITCHES:
        command = click.option(f"--{name}/--no-{name}", default=None, hidden=True)(command)
    for name in VALUES:
        command = click.option(f"--{name}", hidden=True)(command)
    return command


def _shard_size(_: click.Context, __: click.Parameter, value: str | None) -> int | None:
    try:
        return None if value is None else parse_shard_size(value)
    except ValueError as error:
        raise click.BadParameter(str(error)) from None


@cli.command()
@click.argument("config", type=click.Path(path_type=Path))
@click.argument("out")
@click.option(
    "--workers",
    "-j",
    "--num-threads",
    type=click.IntRange(min=1),
    default=2,
    show_default=True,
    help="Threads.",
)
@click.option("--memory", default="1GiB", show_default=True, help="Of the process.")
@click.option(
    "--digest",
    type=click.Choice(["crc64nvme", "sha256"]),
    help="Of the shards; default: crc64nvme in a folder, sha256 as well on s3://.",
)
@click.option(
    "--out-shard-size",
    "shard_bytes",
    metavar="SIZE",
    callback=_shard_size,
    help="Bytes of a shard at most, such as 500M or 2B; default: 5B.",
)
@click.option(
    "--health",
    type=click.Choice(["sampled", "full"]),
    help="Cosines and norms from about 1/32 of the elements, or all; default: sampled, or as "
    "CONFIG says.",
)
@click.option("--quiet", "-q", is_flag=True, help="No progress.")
@click.option("--verbose", "-v", count=True, hidden=True)
@mergekit_flags
@json_option
def merge(
    config: Path,
    out: str,
    workers: int,
    memory: str,
    digest: Literal["crc64nvme", "sha256"] | None,
    shard_bytes: int | None,
    health: Literal["sampled", "full"] | None,
    quiet: bool,
    verbose: int,
    as_json: bool,
    **flags: object,
) -> None:
    """Merge by CONFIG (mergekit YAML or a recipe's merge block) into OUT, a folder or s3:// URI.

    OUT must be empty, or hold this very merge. Takes mergekit-yaml's flags too, such as
    --no-copy-tokenizer, --no-write-model-card and --cuda.
    """

    def work() -> int:
        from jobs.commands.merge import run_merge

        options = read_flags(
            flags,
            workers=workers,
            digest=digest,
            shard_bytes=shard_bytes,
            health=health,
            is_quiet=quiet,
        )
        return run_merge(config, out, memory=memory, as_json=as_json, options=options)

    finish(work, as_json=as_json)
