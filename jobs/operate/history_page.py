"""The index page of an output's runs: one HTML file without script, links to the reports."""

import math
import shlex
from collections.abc import Mapping, Sequence
from importlib.metadata import version
from typing import TYPE_CHECKING

from markupsafe import Markup, escape

from jobs.console.figures import plural
from jobs.report.pages import clean, format_loss, page_environment

if TYPE_CHECKING:
    from jobs.operate.history_row import HistoryRow

NUM_DRAWN = 90
HEIGHT, LEFT, RIGHT, TOP, BOTTOM = 240, 56, 12, 30, 34
# Class of the SVG of wide and narrow pages, its width, the room for a name in its legend, the size
# of its texts.
WIDE, NARROW = ("wide", 960, 170, 14), ("narrow", 380, 128, 12)
# Attribute of a row, what it is called, how its line looks.
LINES = (
    ("loss_best", "best candidate", "var(--faint)", "2 3"),
    ("loss_incumbent", "incumbent", "var(--warn)", "6 4"),
    ("loss_fused", "fused", "var(--good)", ""),
)


def write_page(rows: Sequence["HistoryRow"], *, output: str, promoted: str) -> bytes:
    """index.html; the same rows give the same bytes.

    Args:
        rows: rows of the history, oldest first.
        output: URI of the output, for people.
        promoted: name of the run whose model is promoted now; "" for none.
    """
    environment = page_environment()
    environment.filters["words"] = lambda text: text.replace("_", " ")
    drawn = [row for row in rows if row.loss_fused is not None][-NUM_DRAWN:]
    return (
        environment.get_template("history.html.j2")
        .render(
            rows=list(reversed(rows)),
            name=rows[-1].recipe if rows else "no run yet",
            headline=describe_history(rows, promoted),
            output=output,
            promoted=promoted,
            figure=draw_losses(drawn) + draw_losses(drawn, NARROW) if len(drawn) > 1 else "",
            command=shlex.join(("metafuse", "history", output, "--write")),
            num_drawn=len(drawn),
            version=version("metafuse"),
        )
        .encode()
    )


def describe_history(rows: Sequence["HistoryRow"], promoted: str) -> str:
    """How the last run ended and what is promoted, in one sentence."""
    if not rows:
        return "No run yet"
    count = plural(len(rows), "run")
    now = f"{promoted} is promoted" if promoted else "nothing is promoted"
    return f"{count}; the last, {rows[-1].run}: {rows[-1].outcome.replace('_', ' ')}; {now}"


def draw_losses(rows: Sequence["HistoryRow"], look: tuple[str, int, int, int] = WIDE) -> Markup:
    """Lines of the losses over the nights, as SVG.

    Args:
        rows: rows of judged runs, oldest first; at least one.
        look: WIDE or NARROW.
    """
    name, width, room, size = look
    values = [
        value for row in rows for field, *_ in LINES if _is_drawn(value := getattr(row, field))
    ]
    low, high = min(values, default=0.0), max(values, default=1.0)
    spread = (high - low) or max(abs(high), 1.0) * 0.1
    low, high = low - 0.08 * spread, high + 0.08 * spread
    step = (width - LEFT - RIGHT) / max(len(rows) - 1, 1)

    def place(index: int, value: float) -> tuple[float, float]:
        return LEFT + index * step, TOP + (high - value) / (high - low) * (HEIGHT - TOP - BOTTOM)

    parts = [*_axis(rows, (low, high), (place(0, low)[1], place(0, high)[1]), width)]
    for order, (field, label, colour, dashes) in enumerate(LINES):
        points = [
            place(index, value)
            for index, row in enumerate(rows)
            if _is_drawn(value := getattr(row, field))
        ]
        stroke = {"colour": colour, "dashes": dashes}
        parts += _line(points, stroke, label, LEFT + room * order)
    title = f"Losses of {len(rows)} runs, {rows[0].logical_date} to {rows[-1].logical_date}"
    return Markup(
        '<svg class="{}" viewBox="0 0 {} {}" role="img" font-size="{}" fill="currentColor">'
        "<title>{}</title>{}</svg>"
    ).format(name, width, HEIGHT, size, clean(title), Markup("").join(parts))


def _is_drawn(value: float | None) -> bool:
    return value is not None and math.isfinite(value)


def _axis(
    rows: Sequence["HistoryRow"],
    limits: tuple[float, float],
    edges: tuple[float, float],
    width: int,
) -> list[Markup]:
    """Lines at the limits and between, with their figures; the first and the last date."""
    (low, high), (bottom, top) = limits, edges
    rule = Markup('<line x1="{}" x2="{}" y1="{:.1f}" y2="{:.1f}" stroke="var(--line)"/>')
    text = Markup('<text x="{}" y="{:.1f}" text-anchor="{}" fill="var(--soft)">{}</text>')
    parts = []
    for share in (0.0, 0.5, 1.0):
        y = bottom + share * (top - bottom)
        parts.append(rule.format(LEFT, width - RIGHT, y, y))
        parts.append(text.format(LEFT - 8, y + 4, "end", format_loss(low + share * (high - low))))
    parts.append(text.format(LEFT, HEIGHT - 10, "start", clean(rows[0].logical_date)))
    parts.append(text.format(width - RIGHT, HEIGHT - 10, "end", clean(rows[-1].logical_date)))
    return parts


def _line(
    points: Sequence[tuple[float, float]], look: Mapping[str, str], label: str, left: float
) -> list[Markup]:
    """One line with a dot a night, and its entry in the legend."""
    stroke = Markup('stroke="{}" stroke-width="2" stroke-dasharray="{}" fill="none"').format(
        look["colour"], look["dashes"] or "none"
    )
    joined = " ".join(f"{x:.1f},{y:.1f}" for x, y in points)
    dots = [
        Markup('<circle cx="{:.1f}" cy="{:.1f}" r="2.5" fill="{}"/>').format(x, y, look["colour"])
        for x, y in points
    ]
    return [
        Markup('<polyline points="{}" {}/>').format(joined, stroke),
        *dots,
        Markup('<line x1="{}" x2="{}" y1="14" y2="14" {}/>').format(left, left + 26, stroke),
        Markup('<text x="{}" y="18">{}</text>').format(left + 32, escape(label)),
    ]
