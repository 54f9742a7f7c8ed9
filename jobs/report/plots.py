"""The figures of the report, as SVG text that is the same for the same values.

Each is drawn twice, for wide and for narrow pages; the page shows one. Colours are the variables of
the page's style, so that they are readable in light and in dark.
"""

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from markupsafe import Markup

from fusion.evidence.wording import format_signed
from fusion.manifests.report import CandidateRow, ForestRow
from fusion.plans.health import ModelHealth
from jobs.report.names import shorten_names

COLOURS = {
    "fused": "var(--good)", "candidate": "var(--soft)", "uniform": "var(--uniform)",
    "ensemble": "var(--ensemble)", "incumbent": "var(--warn)",
}  # fmt: skip
# From a pale to a dark tone of the fused model's colour, seen on white and on near-black.
TONES = ((204, 251, 241), (20, 184, 166), (19, 78, 74))
LEVELS = 24


@dataclass(frozen=True, slots=True)
class Look:
    """How figures are laid out, in units of about a pixel.

    Attributes:
        name: class of the SVG.
        width: width of the figure.
        left: where the axis begins.
        values: room for figures to the right of a forest plot.
        longest_name: number of characters of a name that there is room for.
        size: size of the texts.
        row: height of a row.
        most_columns: number of columns of the health plot; neighbours share one beyond.
        is_stacked: whether names stand above their lines, not beside them.
    """

    name: str
    width: int
    left: int
    values: int
    longest_name: int
    size: int
    row: int
    most_columns: int
    is_stacked: bool


LOOKS = (
    Look("wide", 880, 225, 260, 26, 14, 30, 160, is_stacked=False),
    Look("narrow", 350, 14, 10, 19, 12, 46, 80, is_stacked=True),
)


@dataclass(frozen=True, slots=True)
class Axis:
    """Values on a line: `low` is drawn at `left`, `high` at `right`."""

    low: float
    high: float
    left: float
    right: float

    def place(self, value: float) -> float:
        """Where a value is drawn."""
        return self.left + (value - self.low) / (self.high - self.low) * (self.right - self.left)


def forest_plot(rows: Sequence[ForestRow], *, reference: str, smallest_effect: float) -> Markup:
    """Differences to the reference with 95 % intervals, one line a model.

    Squares grow with the weight of evidence; the fused model is a diamond. Intervals that leave
    the frame end in arrows.
    """
    low, high = _frame(rows, smallest_effect)

    def draw(look: Look) -> Iterator[Markup]:
        axis = Axis(low, high, look.left, look.width - look.values)
        shown = shorten_names([reference, *(row.name for row in rows)], look.longest_name)
        middles = _middles(22, len(rows), look)
        bottom = 22 + look.row * len(rows)
        at = axis.place(smallest_effect)
        yield from _rules(axis.place(0), middles, (18, bottom), look)
        yield from _rules(at, middles, (18, bottom), look, is_dotted=True)
        yield _text(at, 12, "smallest effect", "middle" if at < look.width - 60 else "end")
        for row, y in zip(rows, middles, strict=True):
            yield from _forest_texts(row, shown[row.name], y=y, axis=axis, look=look)
            yield from _forest_marks(row, rows, y=y, axis=axis)
        yield from _ticks(axis, bottom, f"gain over {shown[reference]}", look)

    return _both(draw, lambda look: 22 + look.row * len(rows) + 46, "Gains of models")


def weights_plot(rows: Sequence[CandidateRow]) -> Markup:
    """One bar a candidate that is in the average."""
    kept = [(row.name, row.weight) for row in rows if row.weight is not None]
    return _bars(kept, "weight (dotted: equal weights)", _three, mark=1 / max(1, len(kept)))


def timings_plot(timings: Sequence[tuple[str, float]]) -> Markup:
    """Seconds a step, one bar each."""
    return _bars(timings, "seconds", lambda seconds: f"{seconds:.1f} s", mark=None)


def health_plot(health: ModelHealth) -> Markup:
    """Angle between every candidate and the result, tensor by tensor in file order.

    A row a candidate; the darker, the further. Of more tensors than columns, neighbours share a
    column, which shows the furthest of them.
    """
    names = [candidate.name for candidate in health.summary.candidates]

    def draw(look: Look) -> Iterator[Markup]:
        shown = shorten_names(names, look.longest_name)
        angles = _angles(health, look.most_columns)
        most = max([*(a for row in angles for a in row if not math.isnan(a)), 1.0])
        right = look.width - 10
        step = (right - look.left) / max(1, len(angles[0]) if angles else 1)
        cells: dict[int, list[str]] = {}
        for index, (name, row) in enumerate(zip(names, angles, strict=True)):
            top = 4 + look.row * index
            yield _name(shown[name], top + (14 if look.is_stacked else look.row / 2), look)
            top, height = (top + 19, look.row - 22) if look.is_stacked else (top, look.row - 3)
            for column, angle in enumerate(row):
                if not math.isnan(angle):
                    level = round(angle / most * (LEVELS - 1))
                    cell = (
                        f"M{look.left + column * step:.1f} {top}h{step:.1f}v{height}h-{step:.1f}z"
                    )
                    cells.setdefault(level, []).append(cell)
        for level, shapes in sorted(cells.items()):
            path = Markup('<path fill="{}" d="{}"/>')
            yield path.format(_tone(level / (LEVELS - 1)), "".join(shapes))
        yield from _scale(look, most, 4 + look.row * len(names), len(health.tensors))

    return _both(draw, lambda look: look.row * len(names) + 34, "Angles of candidates")


def _bars(
    bars: Sequence[tuple[str, float]], title: str, write: Callable[[float], str], *,
    mark: float | None,
) -> Markup:  # fmt: skip
    """Bars from the left edge, with their figures at the ends."""
    values = [value for _, value in bars]
    low, high = min([0.0, *values]), max([0.01, *values])

    def draw(look: Look) -> Iterator[Markup]:
        axis = Axis(low, high, look.left, look.width - 70)
        shown = shorten_names([name for name, _ in bars], look.longest_name)
        bottom, thick = 4 + look.row * len(bars), 14 if look.is_stacked else 18
        middles = _middles(4, len(bars), look)
        at = None if mark is None else axis.place(mark)
        if at is not None:
            yield from _rules(at, middles, (2, bottom), look, is_dotted=True)
        for (name, value), y in zip(bars, middles, strict=True):
            yield _name(shown[name], y - (16 if look.is_stacked else 0), look)
            start, end = sorted((axis.place(0), axis.place(value)))
            yield Markup(
                '<rect x="{:.1f}" y="{:.1f}" width="{:.1f}" height="{}" fill="{}"/>'
            ).format(start, y - thick / 2, max(end - start, 1), thick, COLOURS["fused"])
            figure = write(value)
            is_crossed = at is not None and end < at < end + 10 + look.size * len(figure)
            yield _text((at if at is not None and is_crossed else end) + 7, y + 4.5, figure)
        yield from _ticks(axis, bottom, title, look)

    return _both(draw, lambda look: 4 + look.row * len(bars) + 46, title)


def _both(
    draw: Callable[[Look], Iterator[Markup]], height: Callable[[Look], float], title: str
) -> Markup:
    frame = Markup(
        '<svg class="{}" viewBox="0 0 {} {:g}" role="img" font-size="{}" fill="var(--soft)">'
        "<title>{}</title>{}</svg>"
    )
    figures = (
        frame.format(
            look.name, look.width, height(look), look.size, title, Markup("").join(draw(look))
        )
        for look in LOOKS
    )
    return Markup("\n").join(figures)


def _three(value: float) -> str:
    return f"{value:.3f}"


def _text(x: float, y: float, text: str, anchor: str = "start", *, is_bold: bool = False) -> Markup:
    return Markup('<text x="{:.1f}" y="{:.1f}" text-anchor="{}"{}>{}</text>').format(
        x, y, anchor, Markup(' font-weight="600" fill="var(--ink)"') if is_bold else "", text
    )


def _name(text: str, y: float, look: Look, *, is_bold: bool = False) -> Markup:
    """The name of a row: to the left of the axis, or above it where there is little room."""
    if look.is_stacked:
        return _text(look.left, y, text, is_bold=is_bold)
    return _text(look.left - 12, y + 4.5, text, "end", is_bold=is_bold)


def _middles(top: float, count: int, look: Look) -> list[float]:
    """Where the line of each row is drawn."""
    first = top + look.row / 2 + (8 if look.is_stacked else 0)
    return [first + look.row * index for index in range(count)]


def _rules(
    x: float, middles: Sequence[float], ends: tuple[float, float], look: Look, *,
    is_dotted: bool = False,
) -> Iterator[Markup]:  # fmt: skip
    """An upright line through all rows, which leaves out texts that stand above their lines."""
    pieces = [(y - 10, y + 15) for y in middles] if look.is_stacked else [ends]
    for top, bottom in pieces:
        yield _rule(x, top, bottom, is_dotted=is_dotted)


def _rule(x: float, top: float, bottom: float, *, is_dotted: bool = False) -> Markup:
    return Markup(
        '<line x1="{0:.1f}" x2="{0:.1f}" y1="{1:g}" y2="{2:g}" stroke="var(--faint)"{3}/>'
    ).format(x, top, bottom, Markup(' stroke-dasharray="2 3"') if is_dotted else "")


def _ticks(axis: Axis, y: float, title: str, look: Look) -> Iterator[Markup]:
    """The axis below a figure: a line, a figure at each of a few round values, a title."""
    yield Markup(
        '<line x1="{:.1f}" x2="{:.1f}" y1="{:g}" y2="{:g}" stroke="var(--faint)"/>'
    ).format(axis.left, axis.right, y, y)
    rough = (axis.high - axis.low) / (4 if look.is_stacked else 7)
    power = 10.0 ** math.floor(math.log10(rough))
    step = power * next(size for size in (1, 2, 5, 10) if size * power >= rough)
    digits = max(0, -math.floor(math.log10(step)))
    for number in range(math.ceil(axis.low / step), math.floor(axis.high / step) + 1):
        x = axis.place(number * step)
        yield _rule(x, y, y + 4)
        yield _text(x, y + 17, f"{number * step:.{digits}f}", "middle")
    yield _text((axis.left + axis.right) / 2, y + 38, title, "middle")


def _angles(health: ModelHealth, most_columns: int) -> list[list[float]]:
    """Degrees by candidate and column; nan where a candidate has no cosine."""
    step = math.ceil(len(health.tensors) / most_columns)
    rows = []
    for index in range(len(health.summary.candidates)):
        cosines = [tensor.cosines[index] for tensor in health.tensors]
        columns = [cosines[low : low + step] for low in range(0, len(cosines), step)]
        lowest = [min((c for c in column if c is not None), default=None) for column in columns]
        rows.append([math.nan if c is None else math.degrees(math.acos(c)) for c in lowest])
    return rows


def _tone(share: float) -> str:
    """The colour between the tones at a share of the way."""
    first, second = (TONES[:2], TONES[1:])[share > 0.5]
    part = 2 * share - (share > 0.5)
    mixed = (round(a + part * (b - a)) for a, b in zip(first, second, strict=True))
    return "#" + "".join(f"{channel:02x}" for channel in mixed)


def _scale(look: Look, most: float, y: float, num_tensors: int) -> Iterator[Markup]:
    """What the tones mean, below a health plot."""
    order = "" if look.is_stacked else " in file order"
    yield _text(look.left, y + 20, f"{num_tensors:,} tensors{order}")
    right, width = look.width - 10, 4
    start = right - 52 - width * LEVELS
    yield _text(start - 6, y + 20, "0°", "end")
    for level in range(LEVELS):
        yield Markup('<rect x="{}" y="{:g}" width="{}" height="10" fill="{}"/>').format(
            start + width * level, y + 11, width, _tone(level / (LEVELS - 1))
        )
    yield _text(start + width * LEVELS + 6, y + 20, f"{most:.1f}°")


def _frame(rows: Sequence[ForestRow], smallest_effect: float) -> tuple[float, float]:
    """Limits that show the fused model well; very wide intervals are cut."""
    ends = [e for row in rows for e in (row.mean, row.low95, row.high95) if math.isfinite(e)]
    core = [
        abs(e)
        for row in rows
        if row.role != "candidate"
        for e in (row.low95, row.high95)
        if math.isfinite(e)
    ]
    reach = 3 * max([*core, smallest_effect, 1e-6])
    low = max(min([*ends, 0.0]), -reach)
    high = min(max([*ends, smallest_effect, 1e-6]), reach)
    margin = 0.06 * (high - low)
    return low - margin, high + margin


def _forest_texts(
    row: ForestRow, name: str, *, y: float, axis: Axis, look: Look
) -> Iterator[Markup]:
    """A name and the figures."""
    is_bold = row.role == "fused"
    mean, low95, high95 = (format_signed(v) for v in (row.mean, row.low95, row.high95))
    figures = f"{mean}  [{low95}, {high95}]"
    above = y - 16
    yield _name(name, above if look.is_stacked else y, look, is_bold=is_bold)
    place = (
        (look.width - 8, above, "end") if look.is_stacked else (axis.right + 16, y + 4.5, "start")
    )
    yield _text(place[0], place[1], figures, place[2], is_bold=is_bold)


def _forest_marks(
    row: ForestRow, rows: Sequence[ForestRow], *, y: float, axis: Axis
) -> Iterator[Markup]:
    """An interval with its mean; what leaves the frame ends in an arrow at its edge."""
    if not all(map(math.isfinite, (row.mean, row.low95, row.high95))):
        return
    colour = COLOURS[row.role]
    start, end = (axis.place(min(max(v, axis.low), axis.high)) for v in (row.low95, row.high95))
    if start < end:
        yield Markup(
            '<line x1="{:.1f}" x2="{:.1f}" y1="{:g}" y2="{:g}" stroke="{}" stroke-width="2"/>'
        ).format(start, end, y, y, colour)
    arrow = Markup('<path d="M{:.1f} {:g}l{} -5v10z" fill="{}"/>')
    if row.low95 < axis.low:
        yield arrow.format(axis.left, y, 8, colour)
    if row.high95 > axis.high:
        yield arrow.format(axis.right, y, -8, colour)
    if axis.low <= row.mean <= axis.high:
        is_fused = row.role == "fused"
        size = 6.5 if is_fused else _square(row, rows) / 2
        turn = Markup(' transform="rotate(45 {0:.1f} {1:g})"').format(axis.place(row.mean), y)
        yield Markup(
            '<rect x="{:.1f}" y="{:.1f}" width="{:.1f}" height="{:.1f}" fill="{}"{}/>'
        ).format(axis.place(row.mean) - size, y - size, 2 * size, 2 * size, colour,
                 turn if is_fused else "")  # fmt: skip


def _square(row: ForestRow, rows: Sequence[ForestRow]) -> float:
    """Side of a square whose area goes with the inverse variance."""
    widths = [r.high95 - r.low95 for r in rows if r.high95 > r.low95]
    width = row.high95 - row.low95
    if not widths or width <= 0:
        return 7.0
    return 6.0 + 6.0 * min(widths) / width
