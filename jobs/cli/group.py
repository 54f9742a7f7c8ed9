"""The command line: thin verbs over the other modules, and the one table of exit statuses."""

import contextlib
import os
import re
import select
import shlex
import sys
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import click

from jobs.cli.kept import describe_interrupt
from jobs.exits import BUG, EXIT_STATUSES, INTERRUPTED, MEANINGS

CONTEXT = {"help_option_names": ["-h", "--help"], "max_content_width": 100}
LONGEST_HELP = 1000

# What to do about an error that says all of it in its message.
NEXT: Mapping[str, str] = {
    "E-RECIPE": "correct that, then give the same command again",
    "E-DATA": "correct the data or task.data, then give the same command again",
    "E-WEIGHTS": "correct the weights, then give the same command again",
    "E-USAGE": "metafuse VERB --help says what a verb takes",
}


def check_output_word(_: click.Context, __: click.Parameter, value: str | None) -> str | None:
    """Refuse a file where the folder or URI of an output is asked, and name that of a recipe."""
    if value is None or "://" in value or not os.path.isfile(value):  # noqa: PTH113  # a plain look
        return value
    hint = ""
    if value.endswith((".yaml", ".yml")):
        from jobs.errors import RecipeError
        from jobs.recipes.recipe import load_recipe

        with contextlib.suppress(RecipeError):
            hint = f"; the recipe says {load_recipe(Path(value)).output}"
    raise click.BadParameter(f"{value} is a file, OUTPUT is a folder or an s3:// URI{hint}")


output_argument = click.argument("output", callback=check_output_word)
json_option = click.option(
    "--json", "as_json", is_flag=True, help="Print exactly one JSON object on stdout."
)
address_option = click.option(
    "--address", metavar="ADDRESS", help="Ray cluster to use; default: an embedded Ray."
)


class Verbs(click.Group):
    """A group whose help has the first sentence of each verb, whole."""

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """The verb of a command line, or an error that says so where it stands second."""
        try:
            return super().resolve_command(ctx, args)
        except click.UsageError as error:
            if args[1:2] and args[1] in self.list_commands(ctx):
                meant = f" Did you mean: {ctx.command_path} {args[1]} {args[0]}"
                raise click.UsageError(error.format_message() + meant, ctx) from None
            raise

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """One entry a verb, on as many lines as it needs."""
        found = [(name, self.get_command(ctx, name)) for name in self.list_commands(ctx)]
        rows = [(name, verb.get_short_help_str(LONGEST_HELP)) for name, verb in found if verb]
        with formatter.section("Commands"):
            formatter.write_dl(rows)


class Metafuse(Verbs):
    """The whole command line, whose help ends with the exit statuses."""

    def format_epilog(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """One entry a status."""
        with formatter.section("Exit statuses"):
            formatter.write_dl([(str(status), text) for status, text in MEANINGS.items()])


@click.group(cls=Metafuse, context_settings=CONTEXT)
@click.version_option(package_name="metafuse", prog_name="metafuse")
def cli() -> None:
    """Evaluate many checkpoints, fuse them, and promote the result only on evidence.

    Start with `metafuse demo`.
    """


def finish(work: Callable[[], int], *, as_json: bool) -> None:
    """Run a verb and leave with its exit status; every error ends here."""
    from jobs.cli.signals import SAID
    from jobs.console.json_log import open_log, read_log
    from jobs.console.show import show_error, show_json

    try:
        open_log(read_log())
        status = work()
    except (KeyboardInterrupt, SystemExit):
        # While it starts, Ray turns SIGTERM into SystemExit.
        kept, hint = describe_interrupt(_path())
        code, message, status = "E-INTERRUPTED", f"stopped; {kept}", INTERRUPTED
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


def _path() -> list[str]:
    """The verb at work and those of its groups: ["schedule", "run"]."""
    context = click.get_current_context(silent=True)
    return sys.argv[1:] if context is None else context.command_path.split()[1:]


def _as_typed(hint: str) -> str:
    """A hint with paths as they stand in the command line: whoever copies it sees their own."""
    for word in _words():
        if "://" not in word and not word.startswith(("/", "~")):
            path, typed = str(Path(word).absolute()), shlex.quote(word).replace("\\", r"\\")
            hint = re.sub(rf"(?<!\S){re.escape(path)}(?![\w.-])", typed, hint)
    return hint


def _words() -> Iterator[str]:
    """Arguments of the verb at work."""
    context = click.get_current_context(silent=True)
    for value in context.params.values() if context is not None else ():
        for each in value if isinstance(value, tuple) else (value,):
            if isinstance(each, str | Path) and str(each):
                yield str(each)


def _describe(error: Exception) -> tuple[str, str, str, int]:
    from cluster.errors import ClusterError
    from fusion.errors import FusionError
    from jobs.errors import JobError

    if isinstance(error, ClusterError | FusionError | JobError):
        hint = _as_typed(error.hint or NEXT.get(error.code, ""))
        return error.code, str(error), hint, EXIT_STATUSES.get(error.code, BUG)
    import traceback

    trace = "".join(traceback.format_exception(error)[-4:])
    return "E-BUG", f"{type(error).__name__}: {error}\n{trace}", "please report this", BUG
