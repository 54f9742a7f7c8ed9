"""A row of the list: the mistake, the command, and what must come of it."""

import contextlib
import ctypes
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

import pytest

from cluster.workers.runner import SerialRunner
from jobs.cli.group import finish
from jobs.console.show import show, show_json
from tests.support.calling import call
from tests.support.running import run_project

PLAN = ("plan", "recipe.yaml")
RUN = ("run", "recipe.yaml")
# In each of these something is refused or left undone, and the next step is told.
REFUSALS = (10, 11, 12, 13, 20, 21)


@dataclass(frozen=True, slots=True)
class Row:
    """A row of `list.md`.

    Attributes:
        id: its id there.
        make: makes the mistake in a copy of the folder that every row begins with.
        says: what stdout and stderr hold together, spaces and line ends taken as one space.
        statuses: exit statuses that are right.
        never: what they do not hold.
        words: the command line after `metafuse`.
        after: looks at the folder after the command; None where the row is about words alone.
        reason: why it may end otherwise than the list wishes; "" where it ends as wished.
    """

    id: str
    make: Callable[[Path], None]
    says: tuple[str, ...]
    statuses: tuple[int, ...] = (0,)
    never: tuple[str, ...] = ()
    words: tuple[str, ...] = PLAN
    after: Callable[[Path], None] | None = None
    reason: str = ""


def judge(row: Row, folder: Path, capsys) -> None:
    """Make the mistake, give the command, hold it to the row.

    `plan` and whatever is refused leave every byte as it was.
    """
    row.make(folder)
    before = read_all(folder)
    with obeying_modes():
        status, out, err = run(folder, capsys) if row.words == RUN else call(capsys, *row.words)
    told = " ".join(f"{out} {err}".split())
    context = f"{row.id}: exit status {status}\n{out}\n{err}"
    assert status in row.statuses, context
    for words in row.says:
        assert words in told, f"{words!r} is not said\n{context}"
    for words in (*row.never, "Traceback", "E-BUG"):
        assert words not in told, f"{words!r} is said\n{context}"
    if status in REFUSALS:
        assert "hint " in err, f"no next step\n{context}"
    if status in REFUSALS or row.words == PLAN:
        assert read_all(folder) == before, context
    if row.after is not None:
        row.after(folder)


def run(folder: Path, capsys) -> tuple[int, str, str]:
    """`metafuse run recipe.yaml` in this process, without Ray; says its report as well."""

    def work() -> int:
        result = run_project(folder, runner=SerialRunner())
        show(f"{result.outcome.result}: {result.outcome.reason}")
        if result.report is not None:
            show_json(asdict(result.report))
        return result.exit_status

    with pytest.raises(SystemExit) as left:
        finish(work, as_json=False)
    captured = capsys.readouterr()
    return left.value.code, captured.out, captured.err


@contextlib.contextmanager
def obeying_modes() -> Iterator[None]:
    """This thread, and those that it starts, may not read what a file's mode forbids, as root may.

    The two capabilities by which root may are taken out of the effective set for the while
    (capabilities(7), capset(2), version 3 of its structures).
    """
    libc, header = ctypes.CDLL(None, use_errno=True), (ctypes.c_uint32 * 2)(0x20080522, 0)
    before, now = (ctypes.c_uint32 * 6)(), (ctypes.c_uint32 * 6)()
    for sets in (before, now):
        assert libc.capget(header, sets) == 0
    now[0] &= ~0b110  # CAP_DAC_OVERRIDE is 1, CAP_DAC_READ_SEARCH 2
    assert libc.capset(header, now) == 0
    try:
        yield
    finally:
        assert libc.capset(header, before) == 0


def read_all(folder: Path) -> dict[str, bytes]:
    """Every file below a folder that is no link, by its path."""
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file() and not path.is_symlink()
    }
