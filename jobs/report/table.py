"""The report's tables for a terminal."""

from collections.abc import Mapping, Sequence

from fusion.manifests.report import CandidateRow, RunReport, ShownMetric
from jobs.console.show import show, show_table
from jobs.report.pages import (
    format_bytes,
    format_count,
    format_loss,
    format_metric,
    format_seconds,
)


def show_report_table(report: RunReport) -> None:
    """Candidates with what they cost and why they are in or out, then the models compared."""
    show("")
    first = report.shown[:1]
    titles = [shown.title for shown in first]
    head = ["candidate", "rank loss", *titles, "weight", "params", "size", "time", ""]
    show_table(head, [_cells(row, first) for row in report.candidates])
    effective = (
        f"{report.effective_models:.2f} of {sum(r.weight is not None for r in report.candidates)}"
    )
    show(f"\n  weights: {report.rule}; effective number of models (1 / sum w^2) {effective}")
    show("")
    rows = [
        [m.name, format_loss(m.gate.loss), *_metrics(m.gate.metrics, first), m.cost]
        for m in report.models
    ]
    rows += [
        [p.source, format_loss(p.loss), *_metrics(p.metrics, first), ""] for p in report.published
    ]
    show_table(["on the gate slice", "loss", *titles, "to serve"], rows)


def _metrics(metrics: Mapping[str, float] | None, shown: Sequence[ShownMetric]) -> list[str]:
    return [format_metric(metrics, entry) for entry in shown]


def _cells(row: CandidateRow, shown: Sequence[ShownMetric]) -> list[str]:
    return [
        row.name,
        format_loss(row.rank.loss) if row.rank else "",
        *_metrics(row.rank.metrics if row.rank else None, shown),
        "" if row.weight is None else f"{row.weight:.3f}",
        format_count(row.num_parameters),
        format_bytes(row.num_bytes),
        format_seconds(row.seconds),
        f"{row.status}: {row.reason}",
    ]
