"""A row of the list: the mistake, the command, and what must come of it."""

import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from tests.support.calling import call

LIST = Path(__file__).parent / "list.md"
PLAN = ("plan", "recipe.yaml")
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
    status, out, err = call(capsys, *row.words)
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


def read_all(folder: Path) -> dict[str, bytes]:
    """Every file below a folder that is no link, by its path."""
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file() and not path.is_symlink()
    }


def listed(letter: str) -> list[str]:
    """Ids of a letter in `list.md`, in order."""
    return re.findall(rf"^\| ({letter}\d{{3}}) \|", LIST.read_text(), re.MULTILINE)
