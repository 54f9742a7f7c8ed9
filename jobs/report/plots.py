"""The figures of the report, as SVG text that is the same for the same values."""

import io
import math
import re
from collections.abc import Sequence

import matplotlib as mpl

mpl.use("svg")
from matplotlib.axes import Axes
from matplotlib.colors import LinearSegmentedColormap
from matplotlib.figure import Figure

from fusion.manifests.report import CandidateRow, ForestRow
from fusion.plans.health import ModelHealth

INK = "#64748b"  # readable on white and on near-black
FAINT = "#94a3b8"
COLOURS = {
    "fused": "#0f766e", "candidate": "#64748b", "uniform": "#2563eb", "ensemble": "#9333ea",
    "incumbent": "#b45309",
}  # fmt: skip
CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\ud800-\udfff]")
LONGEST_NAME = 34
MOST_COLUMNS = 160
# Readable on white and on near-black: from a pale to the dark tone of the fused model's colour.
ANGLES = LinearSegmentedColormap.from_list("angles", ["#ccfbf1", "#14b8a6", "#134e4a"])
WIDTH = 9.4
STYLE = {
    "svg.hashsalt": "metafuse", "svg.fonttype": "none", "font.family": "sans-serif",
    "font.sans-serif": ["Inter", "Segoe UI", "Helvetica Neue", "Arial", "DejaVu Sans"],
    "font.size": 11, "text.parse_math": False, "text.color": INK, "axes.labelcolor": INK,
    "axes.edgecolor": FAINT, "xtick.color": INK, "ytick.color": INK, "axes.spines.top": False,
    "axes.spines.right": False, "axes.spines.left": False, "savefig.transparent": True,
}  # fmt: skip


def plain(text: str) -> str:
    """A name for a figure: no control characters, not too long."""
    clean = CONTROL.sub("\ufffd", text)
    return clean if len(clean) <= LONGEST_NAME else clean[: LONGEST_NAME - 1] + "…"


def forest_plot(rows: Sequence[ForestRow], *, reference: str, smallest_effect: float) -> str:
    """Differences to the reference with 95 % intervals, one line a model.

    Squares grow with the weight of evidence; the fused model is a diamond. Intervals that leave
    the frame end in arrows.
    """
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(WIDTH, 0.42 * len(rows) + 1.1))
        axes = figure.subplots()
        left, right = _frame(rows, smallest_effect)
        for place, row in enumerate(rows):
            _forest_line(axes, len(rows) - 1 - place, row, rows, left, right)
        axes.axvline(0, color=FAINT, linewidth=1)
        top = 1 - 0.5 / (len(rows) + 0.6)  # the dotted line ends below its name
        axes.axvline(smallest_effect, ymax=top, color=FAINT, linewidth=1, linestyle=(0, (2, 3)))
        axes.annotate(
            "smallest effect", (smallest_effect, len(rows) - 0.35), xytext=(4, 0),
            textcoords="offset points", color=FAINT, fontsize=9,
        )  # fmt: skip
        axes.set_xlim(left, right)
        axes.set_ylim(-0.7, len(rows) - 0.1)
        axes.set_yticks(range(len(rows)), [plain(row.name) for row in reversed(rows)])
        axes.tick_params(axis="y", length=0)
        axes.set_xlabel(f"gain in loss over {plain(reference)}  (right of zero is better)")
        figure.subplots_adjust(
            left=0.27, right=0.74, top=0.97, bottom=0.6 / (0.42 * len(rows) + 1.1)
        )
        return _svg(figure)


def weights_plot(rows: Sequence[CandidateRow]) -> str:
    """One bar a candidate that is in the average."""
    kept = [row for row in rows if row.weight is not None]
    with mpl.rc_context(STYLE):
        height = 0.36 * len(kept) + 0.7
        figure = Figure(figsize=(WIDTH, height))
        axes = figure.subplots()
        values = [row.weight or 0.0 for row in reversed(kept)]
        axes.barh(range(len(kept)), values, height=0.55, color=COLOURS["fused"], alpha=0.85)
        for place, value in enumerate(values):
            if value > 0.2 * max(values):  # inside the bar, where no line crosses it
                _beside(axes, value, place, f"{value:.3f}", is_inside=True)
            else:
                _beside(axes, value, place, f"{value:.3f}")
        axes.axvline(
            1 / max(1, len(kept)), color=FAINT, linewidth=1, linestyle=(0, (2, 3)), zorder=0
        )
        axes.set_yticks(range(len(kept)), [plain(row.name) for row in reversed(kept)])
        axes.tick_params(axis="y", length=0)
        axes.set_xlim(min(0.0, *values) if values else 0, max([*values, 0.01]) * 1.15)
        axes.set_xlabel("weight  (dotted: equal weights)")
        figure.subplots_adjust(left=0.27, right=0.94, top=0.98, bottom=0.55 / height)
        return _svg(figure)


def health_plot(health: ModelHealth) -> str:
    """Angle between every candidate and the result, tensor by tensor in file order.

    A row a candidate; the darker, the further. Of more than 160 tensors neighbours share a column,
    which shows the furthest of them.
    """
    names = [candidate.name for candidate in health.summary.candidates]
    angles = _angles(health)
    with mpl.rc_context(STYLE):
        height = 0.34 * len(names) + 0.75
        figure = Figure(figsize=(WIDTH, height))
        axes = figure.subplots()
        known = [angle for row in angles for angle in row if not math.isnan(angle)]
        image = axes.imshow(
            angles, aspect="auto", interpolation="none", cmap=ANGLES, vmin=0,
            vmax=max([*known, 1.0]),
        )  # fmt: skip
        for between in range(1, len(names)):
            axes.axhline(between - 0.5, color="white", linewidth=3)
        axes.set_yticks(range(len(names)), [plain(name) for name in names])
        axes.set_xticks([])
        axes.tick_params(axis="y", length=0)
        axes.spines["bottom"].set_visible(False)
        axes.set_xlabel(f"{len(health.tensors)} tensors in file order")
        bottom = 0.45 / height
        figure.subplots_adjust(left=0.27, right=0.84, top=0.97, bottom=bottom)
        scale = figure.colorbar(image, cax=figure.add_axes((0.86, bottom, 0.015, 0.97 - bottom)))
        scale.outline.set_visible(False)
        scale.ax.tick_params(length=0)
        scale.set_label("degrees")
        return _svg(figure)


def _angles(health: ModelHealth) -> list[list[float]]:
    """Degrees by candidate and column; nan where a candidate has no cosine."""
    step = math.ceil(len(health.tensors) / MOST_COLUMNS)
    rows = []
    for index in range(len(health.summary.candidates)):
        cosines = [tensor.cosines[index] for tensor in health.tensors]
        columns = [cosines[low : low + step] for low in range(0, len(cosines), step)]
        lowest = [min((c for c in column if c is not None), default=None) for column in columns]
        rows.append([math.nan if c is None else math.degrees(math.acos(c)) for c in lowest])
    return rows


def timings_plot(timings: Sequence[tuple[str, float]]) -> str:
    """Seconds a step, one bar each."""
    with mpl.rc_context(STYLE):
        height = 0.3 * len(timings) + 0.7
        figure = Figure(figsize=(WIDTH, height))
        axes = figure.subplots()
        names = [plain(name) for name, _ in reversed(timings)]
        values = [seconds for _, seconds in reversed(timings)]
        axes.barh(range(len(values)), values, height=0.5, color=FAINT)
        for place, value in enumerate(values):
            _beside(axes, value, place, f"{value:.1f} s")
        axes.set_yticks(range(len(values)), names)
        axes.tick_params(axis="y", length=0)
        axes.set_xlim(0, max([*values, 0.1]) * 1.15)
        axes.set_xlabel("seconds")
        figure.subplots_adjust(left=0.27, right=0.94, top=0.98, bottom=0.55 / height)
        return _svg(figure)


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


def _forest_line(
    axes: Axes, y: int, row: ForestRow, rows: Sequence[ForestRow], left: float, right: float
) -> None:
    text = f"{row.mean:+.4f}  [{row.low95:+.4f}, {row.high95:+.4f}]"
    bold = "bold" if row.role == "fused" else "normal"
    axes.annotate(
        text, (1.02, y), xycoords=("axes fraction", "data"), va="center", fontsize=10,
        fontweight=bold, annotation_clip=False,
    )  # fmt: skip
    if not all(map(math.isfinite, (row.mean, row.low95, row.high95))):
        return
    colour = COLOURS[row.role]
    axes.plot([max(row.low95, left), min(row.high95, right)], [y, y], color=colour, linewidth=1.6)
    for end, edge, marker in ((row.low95, left, "<"), (row.high95, right, ">")):
        if (end < edge) if marker == "<" else (end > edge):
            axes.plot([edge], [y], marker=marker, color=colour, markersize=6, clip_on=False)
    if left <= row.mean <= right:
        marker, size = ("D", 9.0) if row.role == "fused" else ("s", _square(row, rows))
        axes.plot([row.mean], [y], marker=marker, color=colour, markersize=size)


def _beside(axes: Axes, x: float, y: float, text: str, *, is_inside: bool = False) -> None:
    """Text just right of a point, or just left of it, inside a bar."""
    axes.annotate(
        text, (x, y), xytext=(-6 if is_inside else 6, 0), textcoords="offset points", va="center",
        ha="right" if is_inside else "left", color="#ffffff" if is_inside else INK, fontsize=10,
    )  # fmt: skip


def _square(row: ForestRow, rows: Sequence[ForestRow]) -> float:
    """Side of a square whose area goes with the inverse variance."""
    widths = [r.high95 - r.low95 for r in rows if r.high95 > r.low95]
    width = row.high95 - row.low95
    if not widths or width <= 0:
        return 6.0
    return 4.5 + 4.0 * min(widths) / width


def _svg(figure: Figure) -> str:
    stream = io.StringIO()
    figure.savefig(stream, format="svg", metadata={"Date": None, "Creator": None})
    text = stream.getvalue()
    text = text[text.index("<svg") :]
    # A fixed size in points would not shrink on a phone.
    return re.sub(r'(<svg[^>]*?) (?:width="[^"]*" |height="[^"]*" ){1,2}', r"\1 ", text, count=1)
