"""The command line: thin verbs over the other modules, and the one table of exit statuses."""

import os
import select
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Literal

import click

from jobs.mergekit_flags import SWITCHES, VALUES, read_flags
from jobs.sizes import parse_shard_size

# The one place where an error code becomes an exit status. Alerts key on these.
EXIT_STATUSES: Mapping[str, int] = {
    "E-USAGE": 2,
    "E-RECIPE": 10, "E-DATA": 10, "E-MEMORY": 10, "E-WEIGHTS": 10, "E-METHOD": 10,
    "E-UNSUPPORTED": 10, "E-MODEL": 10,
    "E-HEADER": 11, "E-PICKLE": 11, "E-UNSAFE-NAME": 11, "E-POINTER": 11, "E-MANIFEST": 11,
    "E-SHAPE": 12, "E-DTYPE": 12, "E-TENSORS": 12, "E-VOCABULARY": 12, "E-CONFIG": 12,
    "E-KINDS": 12, "E-ADAPTER": 12, "E-QUANTISED": 12, "E-MISMATCH": 12, "E-INTEGER": 12,
    "E-NO-CANDIDATES": 13, "E-TOO-FEW": 13, "E-INCOMPLETE": 13, "E-TRUNCATED": 13,
    "E-NONFINITE": 13,
    "E-SOURCE-CHANGED": 20, "E-PRECONDITION": 20,
    "E-NOT-FOUND": 21, "E-NO-PLACE": 21, "E-ACCESS": 21, "E-REGION": 21, "E-OUTPUT": 21,
    "E-UNREACHABLE": 21, "E-DIGEST": 21,
    "E-FULL": 22, "E-THROTTLED": 23, "E-LOCKED": 30, "E-CLUSTER": 40, "E-UPLOAD-GONE": 40,
    "E-INTERRUPTED": 130,
}  # fmt: skip
BUG = 70
INTERRUPTED = 130
CONTEXT = {"help_option_names": ["-h", "--help"], "max_content_width": 100}

json_option = click.option(
    "--json", "as_json", is_flag=True, help="Print exactly one JSON object on stdout."
)
address_option = click.option(
    "--address", metavar="ADDRESS", help="Ray cluster to use; default: an embedded Ray."
)


@click.group(context_settings=CONTEXT)
@click.version_option(package_name="metafuse", prog_name="metafuse")
def cli() -> None:
    """Evaluate many checkpoints, fuse them, and promote the result only on evidence.

    Start with `metafuse demo`. Exit status: 0 done or promoted, 2 usage, 3 nothing new, 4 held,
    5 not decided, 10 recipe, 11 refused for safety, 12 incompatible, 13 too few candidates,
    20 source changed, 21 storage, 22 full, 23 throttled, 30 locked, 40 cluster, 70 bug,
    130 interrupted (the same command continues).
    """


@cli.command()
@click.argument("folder", required=False, type=click.Path(path_type=Path))
@click.option("--seed", default=0, show_default=True, help="Of the training.")
@json_option
def demo(folder: Path | None, seed: int, as_json: bool) -> None:
    """Train small models on real text, fuse them, judge the result, write a report."""
    from jobs.commands import run_demo

    finish(lambda: run_demo(folder, seed=seed, as_json=as_json), as_json=as_json)


@cli.command()
@click.argument("recipe", type=click.Path(path_type=Path))
@json_option
def plan(recipe: Path, as_json: bool) -> None:
    """Check RECIPE and its candidates by their headers; show bytes, memory and money."""
    from jobs.commands import show_plan

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
    from jobs.commands import run_main

    finish(
        lambda: run_main(
            recipe, logical_date=logical_date, address=address, is_unattended=unattended,
            as_json=as_json,
        ),
        as_json=as_json,
    )  # fmt: skip


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
        from jobs.merge_command import run_merge

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
    from jobs.evaluate_command import run_evaluate

    finish(
        lambda: run_evaluate(
            checkpoints, task, slice_name=slice_name, address=address, as_json=as_json
        ),
        as_json=as_json,
    )


@cli.command()
@click.argument("models", nargs=-1, required=True)
@click.option("--text", "texts", multiple=True, help="Text to ask; default: lines of stdin.")
@click.option("--base", metavar="PATH", help="Model that adapters among MODELS change.")
@json_option
def predict(
    models: tuple[str, ...], texts: tuple[str, ...], base: str | None, as_json: bool
) -> None:
    """Ask a checkpoint, an output's promoted model, or several MODELS as an ensemble."""
    from jobs.commands import run_predict

    finish(lambda: run_predict(models, texts, base=base, as_json=as_json), as_json=as_json)


@cli.command()
@click.argument("output")
@click.option("--verify", "with_bytes", is_flag=True, help="Read every byte and check its digest.")
@json_option
def resolve(output: str, with_bytes: bool, as_json: bool) -> None:
    """Print the URI of the model that is promoted in OUTPUT.

    Its manifests, their digests and the sizes of its files are checked; the bytes with --verify.
    """
    from jobs.commands import show_resolved

    finish(lambda: show_resolved(output, with_bytes=with_bytes, as_json=as_json), as_json=as_json)


@cli.command()
@click.argument("output")
@click.argument("folder", type=click.Path(path_type=Path))
@json_option
def pull(output: str, folder: Path, as_json: bool) -> None:
    """Bring the promoted model of OUTPUT to FOLDER, verified."""
    from jobs.commands import run_pull

    finish(lambda: run_pull(output, folder, as_json=as_json), as_json=as_json)


@cli.command()
@click.argument("output")
@click.option("--run", "run_name", metavar="RUN", help="Which run; default: the promoted one.")
@click.option("--write", "folder", type=click.Path(path_type=Path), help="Copy the files here.")
@json_option
def report(output: str, run_name: str | None, folder: Path | None, as_json: bool) -> None:
    """Show the report of a run in OUTPUT, or copy its files."""
    from jobs.commands import show_report

    finish(lambda: show_report(output, run_name, folder, as_json=as_json), as_json=as_json)


def finish(work: Callable[[], int], *, as_json: bool) -> None:
    """Run a verb and leave with its exit status; every error ends here."""
    from jobs.console import show_error, show_json
    from jobs.entry import SAID
    from jobs.json_log import open_log, read_log

    try:
        open_log(read_log())
        status = work()
    except (KeyboardInterrupt, SystemExit):
        # While it starts, Ray turns SIGTERM into SystemExit.
        code, message, hint = "E-INTERRUPTED", "stopped; what was done is kept", CONTINUE
        status = INTERRUPTED
    except Exception as error:  # noqa: BLE001  # the last resort: a clear line instead of a trace
        if isinstance(error, BrokenPipeError) and _has_no_reader():
            sys.exit(0)
        code, message, hint, status = _describe(error)
    else:
        SAID.set()
        sys.exit(status)
    SAID.set()
    show_error(code, message, hint)
    if as_json:
        show_json({"error": code, "message": message, "hint": hint, "exit_status": status})
    sys.exit(status)


def _has_no_reader() -> bool:
    """`metafuse status OUT | head` has seen enough; what is still to be flushed goes nowhere."""
    watch = select.poll()
    watch.register(sys.stdout.fileno(), 0)
    if not any(event & select.POLLERR for _, event in watch.poll(0)):
        return False
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    return True


CONTINUE = "the same command continues"


def _describe(error: Exception) -> tuple[str, str, str, int]:
    from cluster.errors import ClusterError
    from fusion.errors import FusionError
    from jobs.errors import JobError

    if isinstance(error, ClusterError | FusionError | JobError):
        return error.code, str(error), error.hint, EXIT_STATUSES.get(error.code, BUG)
    import traceback

    trace = "".join(traceback.format_exception(error)[-4:])
    return "E-BUG", f"{type(error).__name__}: {error}\n{trace}", "please report this", BUG


def main(arguments: list[str] | None = None) -> Any:
    """Entry point of the console script."""
    import signal

    import jobs.operate_cli  # the operator's verbs
    import jobs.schedule_cli  # nights
    import jobs.submit_cli  # noqa: F401  # those of a Ray cluster
    from jobs.entry import interrupt

    signal.signal(signal.SIGINT, interrupt)
    signal.signal(signal.SIGTERM, interrupt)
    given = sys.argv[1:] if arguments is None else arguments
    try:
        sys.exit(cli(args=given, prog_name="metafuse", standalone_mode=False))
    except click.ClickException as error:
        error.show()
        if "--json" in given:
            from jobs.console import show_json

            said = {"error": "E-USAGE", "message": error.format_message(), "hint": ""}
            show_json({**said, "exit_status": error.exit_code})
        sys.exit(error.exit_code)
    except (click.Abort, KeyboardInterrupt):
        finish(_interrupted, as_json="--json" in given)


def _interrupted() -> int:
    raise KeyboardInterrupt
