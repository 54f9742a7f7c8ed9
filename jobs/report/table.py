"""The report's tables for a terminal."""

from fusion.manifests.report import CandidateRow, RunReport
from jobs.console.show import show, show_table
from jobs.report.pages import (
    format_bytes,
    format_count,
    format_loss,
    format_percent,
    format_seconds,
)


def show_report_table(report: RunReport) -> None:
    """Candidates with what they cost and why they are in or out, then the models compared."""
    show("")
    head = ["candidate", "rank loss", "accuracy", "weight", "params", "size", "time", ""]
    show_table(head, [_cells(row) for row in report.candidates])
    effective = (
        f"{report.effective_models:.2f} of {sum(r.weight is not None for r in report.candidates)}"
    )
    show(f"\n  weights: {report.rule}; effective number of models (1 / sum w^2) {effective}")
    show("")
    rows = [
        [m.name, format_loss(m.gate.loss), format_percent(m.gate.accuracy), m.cost]
        for m in report.models
    ]
    rows += [
        [p.source, format_loss(p.loss), format_percent(p.accuracy), ""] for p in report.published
    ]
    show_table(["on the gate slice", "loss", "accuracy", "to serve"], rows)


def _cells(row: CandidateRow) -> list[str]:
    return [
        row.name,
        format_loss(row.rank.loss) if row.rank else "",
        format_percent(row.rank.accuracy) if row.rank else "",
        "" if row.weight is None else f"{row.weight:.3f}",
        format_count(row.num_parameters),
        format_bytes(row.num_bytes),
        format_seconds(row.seconds),
        f"{row.status}: {row.reason}",
    ]
