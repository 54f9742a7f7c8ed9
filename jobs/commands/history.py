"""What `metafuse history` shows."""

import time
from collections.abc import Sequence

from cluster.stores.open_store import open_store
from jobs.console.show import note, show, show_json, show_table, show_under
from jobs.console.sizes import format_size, parse_age
from jobs.exits import NOTHING_NEW
from jobs.operate.history import keep_history, plain, read_history
from jobs.operate.history_row import HistoryRow
from jobs.report.pages import format_gain, format_loss

HEAD = (
    "run", "date", "outcome", "verdict", "gain", "95 % interval", "fused", "incumbent", "best",
    "averaged", "seconds", "bytes",
)  # fmt: skip


def show_history(
    output: str, *, within: str | None, last: int, is_written: bool, as_json: bool
) -> int:
    """`metafuse history`; exit status 3 if no run ended `within` the age."""
    age = None if within is None else parse_age(within, option="--within")
    store = open_store(output)
    rows = keep_history(store) if is_written else read_history(store)
    if age is not None:
        rows = tuple(row for row in rows if row.ended and time.time() - row.ended <= age)
    status = NOTHING_NEW if age is not None and not rows else 0
    if as_json:
        show_json({"output": store.uri, "runs": [plain(row) for row in rows]})
        return status
    shown = rows[-last:] if last else rows
    if not shown:
        show(f"no run ended within {within}" if age is not None else "no run yet")
        if age is not None:
            note(f"hint     metafuse status {output} shows whether one is at work")
        return status
    show_table(HEAD, [_cells(row) for row in shown])
    for row in shown:
        for what in filter(None, (row.removed and f"model removed {row.removed}", row.problem)):
            show_under(f"  {row.run}: ", what)
    if len(shown) < len(rows):
        show(f"  {len(rows) - len(shown)} older ones: --last 0 shows all")
    return status


def _cells(row: HistoryRow) -> Sequence[str]:
    low, high = row.gain_low95, row.gain_high95
    kept = "" if row.num_kept is None else f"{row.num_kept} of "
    moved = (row.read_bytes or 0) + (row.written_bytes or 0)
    return (
        row.run,
        row.logical_date,
        row.outcome,
        row.verdict,
        "" if row.gain is None else format_gain(row.gain),
        "" if low is None or high is None else f"{format_gain(low)} to {format_gain(high)}",
        format_loss(row.loss_fused),
        format_loss(row.loss_incumbent),
        format_loss(row.loss_best),
        kept + ("" if row.num_candidates is None else str(row.num_candidates)),
        "" if row.seconds is None else f"{row.seconds:,.1f}",
        "" if row.read_bytes is None else format_size(moved),
    )
