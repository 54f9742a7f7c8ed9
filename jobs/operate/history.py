"""What became of every run of an output: rows from its reports and outcomes, kept as Parquet.

Everything follows from what the runs left; `history.parquet` only saves reading it again. A run
that has ended does not change, so its row is taken from there as long as its outcome is the same
object. What is damaged, missing or of another layout is read anew.
"""

import io
import re
from collections.abc import Iterator, Mapping
from dataclasses import asdict, fields, replace
from typing import get_type_hints

import pyarrow as pa
from pyarrow import parquet

from cluster.errors import ClusterError, NotFoundError
from cluster.stores.store import ObjectInfo, Store
from fusion.errors import FusionError, ManifestError
from fusion.manifests.report import RunReport
from jobs.operate.history_page import write_page
from jobs.operate.history_row import HistoryRow
from jobs.outputs.judgements import judgement_name
from jobs.outputs.keys import OUTCOME_KEY, PLAN_KEY, REMOVED_KEY, REPORT_KEY
from jobs.outputs.parquet_file import read_parquet
from jobs.outputs.pointer import read_pointer
from jobs.outputs.run_folder import RunFolder
from jobs.outputs.runs import read_outcome, read_plan
from jobs.outputs.stored import read_stored
from jobs.outputs.verify import read_removed

HISTORY_KEY = "history.parquet"
INDEX_KEY = "index.html"
GONE = "its folder is gone"
FILE = re.compile(r"runs/([^/]+)/([^/]+)")
REPORT = re.compile(r"report(?:-([0-9]+))?\.json")
COLUMNS = {
    str: pa.string(), int: pa.int64(), float: pa.float64(), int | None: pa.int64(),
    float | None: pa.float64(),
}  # fmt: skip


def read_history(store: Store) -> tuple[HistoryRow, ...]:
    """All runs of an output, by date and attempt. Writes nothing.

    Runs whose folder is gone stay, marked, as long as the Parquet file remembers them.
    """
    known = {row.run: row for row in _read_cache(store)}
    found = _list_runs(store)
    rows = [_read_row(store, run, files, known.get(run)) for run, files in found.items()]
    rows += [
        replace(row, removed=row.removed or GONE, report="")
        for run, row in known.items()
        if run not in found
    ]
    return tuple(sorted(rows, key=lambda row: (row.logical_date, row.recipe, row.attempt, row.run)))


def keep_history(store: Store) -> tuple[HistoryRow, ...]:
    """Read the history and write `history.parquet` and `index.html`. Safe to repeat."""
    rows = read_history(store)
    store.put(HISTORY_KEY, format_history(rows))
    seen = read_pointer(store)
    page = write_page(rows, output=store.uri, promoted=seen.pointer.run if seen else "")
    store.put(INDEX_KEY, page)
    return rows


def format_history(rows: tuple[HistoryRow, ...]) -> bytes:
    """Parquet bytes: one row a run, one column an attribute."""
    columns = {name: pa.array([getattr(row, name) for row in rows], kind)
               for name, kind in _schema().items()}  # fmt: skip
    stream = io.BytesIO()
    parquet.write_table(pa.table(columns), stream, compression="zstd")
    return stream.getvalue()


def parse_history(content: bytes) -> tuple[HistoryRow, ...]:
    """The rows that `format_history` wrote.

    Raises:
        ManifestError: the content is no history file, or one of another version.
    """
    try:
        table = read_parquet(pa.BufferReader(content))
    except (pa.ArrowException, OSError, ValueError) as error:
        raise ManifestError(f"{HISTORY_KEY} cannot be read: {error}") from None
    if dict(zip(table.schema.names, table.schema.types, strict=True)) != _schema():
        raise ManifestError(f"{HISTORY_KEY} has other columns")
    return tuple(HistoryRow(**row) for row in table.to_pylist())


def plain(row: HistoryRow) -> dict[str, object]:
    """A row for machines."""
    return asdict(row)


def _schema() -> Mapping[str, pa.DataType]:
    kinds = get_type_hints(HistoryRow)
    return {field.name: COLUMNS[kinds[field.name]] for field in fields(HistoryRow)}


def _read_cache(store: Store) -> tuple[HistoryRow, ...]:
    try:
        return parse_history(store.read(HISTORY_KEY))
    except (NotFoundError, ManifestError):
        return ()


def _list_runs(store: Store) -> Mapping[str, Mapping[str, ObjectInfo]]:
    """The files directly in the folders of runs, by run and name, from one listing."""
    runs: dict[str, dict[str, ObjectInfo]] = {}
    for entry in store.list("runs/"):
        match = FILE.fullmatch(entry.key)
        if match:
            runs.setdefault(match[1], {})[match[2]] = entry
    return {run: files for run, files in runs.items() if PLAN_KEY in files}


def _read_row(
    store: Store, run: str, files: Mapping[str, ObjectInfo], known: HistoryRow | None
) -> HistoryRow:
    """The row of one run; the run is read only where `known` is not the row of its end."""
    ended = files.get(OUTCOME_KEY)
    if known is None or ended is None or known.etag != ended.etag or known.problem:
        known = HistoryRow(run)
        try:
            known = _begun(store, run, ended)
            known = _judged(store, known, files)
        except (FusionError, ClusterError) as error:
            known = replace(known, problem=str(error).partition("\n")[0])
    if REMOVED_KEY in files and not known.removed:
        known = replace(known, removed=read_removed(store, run))
    return known


def _begun(store: Store, run: str, ended: ObjectInfo | None) -> HistoryRow:
    plan, outcome = read_plan(RunFolder(store, run)), read_outcome(RunFolder(store, run))
    if plan is None:
        raise NotFoundError(f"{store.uri}/runs/{run}/{PLAN_KEY} is gone")
    row = HistoryRow(
        run, plan.recipe, plan.logical_date, plan.attempt, num_candidates=len(plan.candidates)
    )
    if outcome is None or ended is None:
        return row
    return replace(
        row, outcome=outcome.result, exit_status=outcome.exit_status, reason=outcome.reason,
        ended=ended.modified, etag=ended.etag,
    )  # fmt: skip


def _judged(store: Store, row: HistoryRow, files: Mapping[str, ObjectInfo]) -> HistoryRow:
    """With the figures of the last judgement."""
    number = max(_judgements(files), default=0)
    if not number:
        return row
    folder = RunFolder(store, row.run)
    found = read_stored(RunReport, store, folder.key(judgement_name(REPORT_KEY, number)))
    losses = {model.role: model.gate.loss for model in found.models}
    hardest = min(found.verdict.comparisons, key=lambda c: c.lower, default=None)
    page = folder.key(judgement_name("report.html", number))
    return replace(
        row,
        verdict=found.verdict.decision,
        reason=row.reason or found.verdict.sentence,
        against=hardest.reference if hardest else "",
        gain=hardest.mean if hardest else None,
        gain_low95=hardest.low95 if hardest else None,
        gain_high95=hardest.high95 if hardest else None,
        loss_fused=losses.get("fused"),
        loss_incumbent=losses.get("incumbent"),
        loss_best=losses.get("best_single"),
        seconds=sum(seconds for _, seconds in found.timings),
        read_bytes=found.merge.read_bytes,
        written_bytes=found.merge.written_bytes,
        num_candidates=len(found.candidates),
        num_kept=sum(candidate.status == "kept" for candidate in found.candidates),
        report=page if page.rpartition("/")[2] in files else "",
    )


def _judgements(files: Mapping[str, ObjectInfo]) -> Iterator[int]:
    for name in files:
        match = REPORT.fullmatch(name)
        if match:
            yield int(match[1] or 1)
