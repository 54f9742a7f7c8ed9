"""The report of a run: one HTML file without script, a Markdown twin, and the value as JSON."""

import math
import re
from collections.abc import Callable, Mapping

import jinja2
from markupsafe import Markup, escape

from fusion.canonical import to_json
from fusion.evidence.verdict import AccuracyChange
from fusion.evidence.wording import format_signed
from fusion.manifests.report import RunReport, ShownMetric
from jobs.console.figures import plural
from jobs.console.sizes import format_size
from jobs.report.data_lines import describe_survey

CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\ud800-\udfff]")
MOMENT = re.compile(r"(\d{4}-\d\d-\d\d)T(\d\d:\d\d):\d\d\+00:00")
# Letters that fit a line of a heading on a phone.
LONGEST_WHOLE = 24
BADGES = {"PROMOTE": "PROMOTE", "HOLD": "HOLD", "REFUSE": "NOT DECIDED"}


def write_report(report: RunReport) -> Mapping[str, bytes]:
    """report.html, report.md and report.json, by name. The same value gives the same bytes."""
    from jobs.report.plots import forest_plot, health_plot, timings_plot, weights_plot

    figures = {
        "forest": forest_plot(
            report.forest,
            reference=report.reference,
            smallest_effect=report.smallest_effect,
        )
        if report.forest
        else "",
        "weights": weights_plot(report.candidates),
        "timings": timings_plot(report.timings),
        "health": health_plot(report.health) if report.health else "",
    }
    environment = page_environment()
    page = environment.get_template("page.html.j2")
    note = environment.get_template("page.md.j2")
    badge = BADGES[report.verdict.decision]
    facts = {
        "num_answers": max(1, sum(row.num_examples for row in report.answers)),
        "rivals_shown": max((len(row.recalls) for row in report.answers), default=1) - 1,
    }
    return {
        "report.html": page.render(r=report, badge=badge, figures=figures, **facts).encode(),
        "report.md": note.render(r=report, badge=badge).encode(),
        "report.json": to_json(report),
    }


def page_environment() -> jinja2.Environment:
    """Templates of this folder: HTML is escaped, control characters are shown as such."""
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("jobs.report", "."),
        autoescape=jinja2.select_autoescape(["html.j2"], default=False),
        trim_blocks=True,
        lstrip_blocks=True,
        undefined=jinja2.StrictUndefined,
        finalize=lambda value: clean(value) if isinstance(value, str) else value,
    )
    filters: dict[str, Callable[..., object]] = {
        "loss": format_loss,
        "gain": format_gain,
        "floor": lambda value: f"{value:g}",
        "percent": format_percent,
        "metric": format_metric,
        "cosine": format_cosine,
        "bytes": format_bytes,
        "count": format_count,
        "seconds": format_seconds,
        "cell": markdown_cell,
        "moment": format_moment,
        "whole": keep_whole,
        "oneline": lambda text: " ".join(clean(text).split()),
        "plural": plural,
        "data_lines": describe_survey,
        "points": format_points,
        "reading": describe_change,
    }
    environment.filters.update(filters)
    return environment


def clean(text: str) -> str:
    """Text from checkpoints is data: control characters are shown as a replacement sign."""
    if isinstance(text, Markup):
        return text
    return CONTROL.sub("\ufffd", text)


def markdown_cell(text: object) -> str:
    """Text that stays inside a Markdown table cell."""
    line = " ".join(clean(str(text)).split())
    return re.sub(r"([\\`*_\[\]<>|#])", r"\\\1", line)


def keep_whole(text: str) -> Markup:
    """A text in which names with hyphens are not broken, unless they need more than a line."""
    words = clean(text).split(" ")
    return Markup(" ").join(
        Markup('<span class="whole">{}</span>').format(word)
        if "-" in word and len(word) <= LONGEST_WHOLE
        else escape(word)
        for word in words
    )


def format_moment(text: str) -> str:
    """2026-11-24T04:03:12+00:00 -> 2026-11-24 04:03 UTC; another text as it is."""
    found = MOMENT.fullmatch(text)
    return f"{found[1]} {found[2]} UTC" if found else text


def format_loss(value: float | None) -> str:
    """Four digits after the point."""
    return "" if value is None else _finite(value, ".4f")


def format_gain(value: float) -> str:
    """Four digits with a sign."""
    return format_signed(value)


def format_percent(value: float) -> str:
    """0.863 -> 86.3 %."""
    return _finite(100 * value, ".1f") + " %"


def format_metric(metrics: Mapping[str, float] | None, shown: ShownMetric) -> str:
    """One metric: 86.3 % for a share, else three digits after the point; "" where it is unknown."""
    if metrics is None or shown.name not in metrics:
        return ""
    value = metrics[shown.name]
    return format_percent(value) if shown.is_share else _finite(value, ".3f")


def format_cosine(value: float | None) -> str:
    """Four digits after the point, and the angle in degrees; "" where there is none."""
    if value is None:
        return ""
    return f"{value:.4f} ({math.degrees(math.acos(max(-1.0, min(1.0, value)))):.1f}°)"


def format_points(value: float) -> str:
    """-0.025 -> -2.5 points."""
    return format_signed(100 * value, 1) + " points"


def describe_change(change: AccuracyChange) -> str:
    """What a difference of accuracies says."""
    if change.low95 > 0:
        return "more answers right"
    return "fewer answers right" if change.high95 < 0 else "no difference beyond chance"


def format_bytes(value: float | None) -> str:
    """1.36 GB, decimal units."""
    return "" if value is None else format_size(int(value))


def format_count(value: float | None) -> str:
    """22.7 M."""
    return "" if value is None else _scaled(value, ("", "k", "M", "B", "T"))


def format_seconds(value: float | None) -> str:
    """3.1 s, or 4 min 10 s."""
    if value is None:
        return ""
    if value < 100:
        return f"{value:.1f} s"
    return f"{int(value // 60)} min {int(value % 60)} s"


def _scaled(value: float, units: tuple[str, ...]) -> str:
    place = 0
    while abs(value) >= 1000 and place < len(units) - 1:
        value /= 1000
        place += 1
    digits = 0 if place == 0 else 1 if value < 100 else 0
    return f"{value:.{digits}f} {units[place]}".rstrip()


def _finite(value: float, spec: str) -> str:
    """A figure without a sign where it is printed as zero."""
    if not math.isfinite(value):
        return str(value)
    text = format(value, spec)
    return text if text.strip("-0.") else text.lstrip("-")
