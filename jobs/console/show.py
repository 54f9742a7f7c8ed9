"""What people see: results on stdout; progress, logs and errors on stderr."""

import json
import logging
import re
import sys
import time
from collections.abc import Sequence
from functools import partial

from jobs.console.figures import Course, Figures, Tell, describe_course, go_on
from jobs.console.json_log import current_log
from jobs.console.secret_texts import mask

LINE_SECONDS = 10.0
CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\ud800-\udfff]")

log = logging.getLogger(__name__)


def clean(text: str) -> str:
    """Text that can neither move the cursor or change colours, nor give a secret away."""
    return CONTROL.sub("\ufffd", mask(text))


def show(text: str) -> None:
    """One result for people, on stdout."""
    print(clean(text), flush=True)


def show_under(head: str, text: str) -> None:
    """One result of several lines, all of which begin where the first does behind its head."""
    show(head + text.replace("\n", "\n" + " " * len(head)))


def quote_spaces(name: str) -> str:
    """A name as it is, in quotes where it has a space: one at its end would not be seen."""
    return repr(name) if any(sign.isspace() for sign in name) else name


def show_json(value: object) -> None:
    """One object for machines, on stdout."""
    print(mask(json.dumps(value, sort_keys=True)), flush=True)


def show_error(code: str, message: str, hint: str) -> None:
    """An error: what, where, expected, found; what was not done; the next command."""
    if current_log().is_json:
        log.error(message, extra={"code": code, "hint": hint})
        return
    first, *rest = clean(message).splitlines() or [""]
    print(f"{code}  {first}", file=sys.stderr)
    for line in rest:
        print(f"  {line}", file=sys.stderr)
    if hint:
        print(f"hint     {clean(hint)}", file=sys.stderr, flush=True)


def note(text: str) -> None:
    """One line on stderr about what is being done."""
    if current_log().is_json:
        log.info(text)
        return
    print(clean(text), file=sys.stderr, flush=True)


def warn(text: str) -> None:
    """One line on stderr."""
    if current_log().is_json:
        log.warning(text)
        return
    print(f"warning  {clean(text)}", file=sys.stderr, flush=True)


def show_table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """A table with aligned columns; numbers stand right."""
    cells = [[clean(str(cell)) for cell in row] for row in (head, *rows)]
    widths = [max(len(row[i]) for row in cells) for i in range(len(head))]
    for row in cells:
        parts = [
            cell.rjust(width) if _is_number(cell) else cell.ljust(width)
            for cell, width in zip(row, widths, strict=True)
        ]
        print("  " + "  ".join(parts).rstrip())
    sys.stdout.flush()


class Progress:
    """A bar on a terminal, a line every 10 seconds elsewhere."""

    def __init__(self, *, is_quiet: bool = False) -> None:
        self._is_quiet = is_quiet
        self._is_json = current_log().is_json
        self._is_terminal = sys.stderr.isatty() and not self._is_json
        self._pace: Course | None = None
        self._step = ""
        self._last = 0.0
        self._done = 0
        self._bar: object = None

    def step(self, name: str, /) -> Tell:
        """How far a step is; with figures, how fast it goes and what is left."""
        return partial(self._hear, name)

    def _hear(self, step: str, done: int, total: int, figures: Figures) -> None:
        if self._is_quiet:
            return
        now, detail = time.monotonic(), figures.unit
        self._pace = go_on(self._pace, step, done=done, total=total, figures=figures, now=now)
        figured = describe_course(self._pace)
        if self._is_terminal:
            self._draw(step, done, total, figured or detail)
        elif (
            step != self._step
            or now - self._last >= LINE_SECONDS
            or done == total
            or 0 == self._done < done  # what comes first shows that it goes
        ):
            self._tell(step, done, total, "  ".join(filter(None, (figured, detail))))
            self._step, self._last, self._done = step, now, done

    def _tell(self, step: str, done: int, total: int, detail: str) -> None:
        if self._is_json:
            counts = {"step": step, "done": done, "total": total, "detail": detail}
            log.info("progress", extra=counts)
            return
        text = f"{step}  {done}/{total}  {detail}".rstrip()
        print(clean(text), file=sys.stderr, flush=True)

    def close(self) -> None:
        """Leave the terminal clean."""
        if self._bar is not None:
            self._bar.stop()  # type: ignore[attr-defined]  # rich is imported only on a terminal
            self._bar = None

    def _draw(self, step: str, done: int, total: int, detail: str) -> None:
        from rich.console import Console
        from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeElapsedColumn
        from rich.progress import Progress as Bars

        if self._bar is None or not isinstance(self._bar, Bars):
            bars = Bars(
                TextColumn("{task.description:24}", markup=False),
                BarColumn(bar_width=32),
                MofNCompleteColumn(),
                TimeElapsedColumn(),
                TextColumn("{task.fields[detail]}", markup=False),
                console=Console(stderr=True),
            )
            bars.start()
            self._bar = bars
        else:
            bars = self._bar
        known = {task.description: task.id for task in bars.tasks}
        name = clean(step)
        if name not in known:
            known[name] = bars.add_task(name, total=total, detail="")
        bars.update(known[name], completed=done, total=total, detail=clean(detail)[:90])


def _is_number(cell: str) -> bool:
    return bool(re.fullmatch(r"[+-]?[0-9.,]+( ?(%|s|MB|GB|kB|B|M|k))?", cell))
