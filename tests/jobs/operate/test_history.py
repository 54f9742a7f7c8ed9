"""The history of an output: rows that follow from the runs, a cache that may be lost, a page."""

import uuid
import xml.etree.ElementTree as ET
from dataclasses import replace

import pyarrow as pa
import pytest
from pyarrow import parquet

from cluster.stores.memory import MemoryStore
from cluster.stores.open_store import open_store
from jobs.notify.follow_up import follow_up
from jobs.operate.gc import collect
from jobs.operate.history import (
    GONE,
    HISTORY_KEY,
    INDEX_KEY,
    format_history,
    keep_history,
    parse_history,
    read_history,
)
from jobs.operate.history_page import draw_losses, write_page
from jobs.operate.history_row import HistoryRow
from jobs.outputs.judgements import find_judgements
from jobs.outputs.run_folder import RunFolder
from jobs.recipes.recipe import load_recipe
from jobs.run.write_results import write_pages
from tests.jobs.commands.test_operate import call, read
from tests.jobs.report.test_pages import HOSTILE, poisoned
from tests.support.html_tables import Page
from tests.support.light_runs import begin, drive
from tests.support.running import run_project
from tests.support.sample_report import make_report


class Watched:
    """A store that notes what is read."""

    def __init__(self, store):
        self._store = store
        self.seen = []

    def read(self, key, **condition):
        self.seen.append(key)
        return self._store.read(key, **condition)

    def __getattr__(self, name):
        return getattr(self._store, name)


@pytest.fixture
def store():
    return MemoryStore(f"memory://{uuid.uuid4().hex}")


def nights(store, *, with_pages=False):
    for day, decision in ((21, "PROMOTE"), (22, "PROMOTE"), (23, "HOLD"), (24, "REFUSE")):
        run, *_ = drive(store, f"2026-11-{day}", decision)
        for judgement in find_judgements(RunFolder(store, run)) if with_pages else ():
            write_pages(RunFolder(store, run), judgement)


def test_a_row_tells_what_report_and_outcome_tell(store):
    nights(store, with_pages=True)
    begin(store, "2026-11-25")
    rows = read_history(store)
    assert [(row.logical_date[-2:], row.outcome, row.exit_status, row.verdict) for row in rows] == [
        ("21", "promoted", 0, "PROMOTE"), ("22", "promoted", 0, "PROMOTE"),
        ("23", "held", 4, "HOLD"), ("24", "refused", 5, "REFUSE"), ("25", "unfinished", None, ""),
    ]  # fmt: skip
    report, row = make_report(), rows[1]
    assert (row.gain, row.gain_low95, row.gain_high95) == (0.0452, 0.0214, 0.0690)
    assert (row.loss_fused, row.loss_incumbent, row.loss_best) == (0.5589, 0.6041, 0.6402)
    assert (row.num_kept, row.num_candidates) == (4, len(report.candidates))
    assert row.seconds == pytest.approx(sum(s for _, s in report.timings))
    assert row.report == "runs/nightly-2026-11-22/report.html"
    assert rows[0].ended <= rows[1].ended
    assert rows[-1].ended == 0


def test_what_is_known_is_not_read_again(store):
    nights(store)
    rows = keep_history(store)
    watched = Watched(store)
    assert read_history(watched) == rows
    assert watched.seen == [HISTORY_KEY]
    drive(store, "2026-11-25")
    watched = Watched(store)
    assert len(read_history(watched)) == 5
    assert {key.split("/")[1] for key in watched.seen[1:]} == {"nightly-2026-11-25"}


def test_an_unfinished_run_is_looked_at_until_it_has_ended(store):
    begin(store, "2026-11-21")
    assert keep_history(store)[0].outcome == "unfinished"
    drive(store, "2026-11-21", "HOLD")
    assert keep_history(store)[0].outcome == "held"


def damaged(content):
    other = io_bytes(pa.table({"run": ["x"], "outcome": ["promoted"]}))
    yield from (b"", b"PAR1", content[:-1], content[: len(content) // 2], b"x" * 500, other)
    yield content[:40] + bytes(200) + content[240:]


def io_bytes(table):
    stream = pa.BufferOutputStream()
    parquet.write_table(table, stream)
    return stream.getvalue().to_pybytes()


def test_a_damaged_cache_is_rebuilt_from_the_runs(store):
    nights(store)
    rows = keep_history(store)
    whole = store.read(HISTORY_KEY)
    for content in damaged(whole):
        store.put(HISTORY_KEY, content)
        assert read_history(store) == rows, content[:20]
        assert keep_history(store) == rows
        assert store.read(HISTORY_KEY) == whole


def test_removed_models_and_lost_folders_stay_with_their_mark(store):
    nights(store)
    keep_history(store)
    collect(store, keep=0, older_than_seconds=-1.0, now=9e9, reason="space")
    for entry in list(store.list("runs/nightly-2026-11-23/")):
        store.delete(entry.key)
    rows = {row.run[-2:]: row for row in keep_history(store)}
    assert rows["21"].removed.startswith("by gc, ")
    assert rows["21"].removed.endswith(": space")
    assert rows["22"].removed == ""
    assert (rows["23"].report, rows["23"].outcome) == ("", "held")
    assert rows["23"].removed
    assert {row.run: row.removed for row in keep_history(store)}["nightly-2026-11-24"]
    store.delete(HISTORY_KEY)
    assert len(read_history(store)) == 3


def test_a_folder_that_is_gone_is_marked_so(store):
    nights(store)
    keep_history(store)
    for entry in list(store.list("runs/nightly-2026-11-22/")):
        store.delete(entry.key)
    assert keep_history(store)[1].removed == GONE


def test_a_report_that_cannot_be_read_spoils_one_row_until_it_is_mended(store):
    nights(store)
    key = "runs/nightly-2026-11-22/report.json"
    content = store.read(key)
    store.put(key, b"{}")
    rows = keep_history(store)
    assert [bool(row.problem) for row in rows] == [False, True, False, False]
    store.put(key, content)
    assert not any(row.problem for row in keep_history(store))


def test_the_file_keeps_every_column_and_no_rows_are_rows(store):
    assert keep_history(store) == ()
    rows = (HistoryRow("r"), HistoryRow("s", gain=-0.5, num_kept=3, problem="p"))
    assert parse_history(format_history(rows)) == rows
    names = parquet.read_schema(pa.BufferReader(store.read(HISTORY_KEY))).names
    assert names[:3] == ["run", "recipe", "logical_date"]


def test_the_page_links_to_the_reports_and_has_no_script(store):
    nights(store, with_pages=True)
    rows = keep_history(store)
    page = store.read(INDEX_KEY).decode()
    reader = Page(page)
    assert page.startswith("<!doctype html>")
    assert "script" not in reader.tags
    assert reader.tags.count("svg") == 2  # for wide and for narrow pages
    for row in rows:
        assert f'href="{row.report}"' in page
        assert store.read(row.report)
    assert "nightly-2026-11-22 is promoted" in reader.title
    assert write_page(rows, output=store.uri, promoted="") == write_page(
        rows, output=store.uri, promoted=""
    )


@pytest.mark.parametrize("text", HOSTILE, ids=["script", "math", "control", "pipes", "long"])
def test_hostile_text_stays_text(text):
    full = HistoryRow("r", gain=0.1, gain_low95=0.0, gain_high95=0.2, loss_fused=0.5, seconds=1.0)
    rows = [poisoned(full, text), poisoned(full, text)]
    page = write_page(rows, output=text, promoted=text).decode()
    reader = Page(page)
    assert "script" not in reader.tags
    assert not reader.handlers
    assert not set(page) & set("\0\x1b")
    ET.fromstring(str(draw_losses(rows)))


def test_the_figure_takes_what_losses_there_are():
    rows = [HistoryRow(f"r{i}", logical_date=f"2026-11-{i:02}", loss_fused=0.5 - i / 100,
                       loss_best=None if i % 2 else 0.6) for i in range(1, 31)]  # fmt: skip
    root = ET.fromstring(str(draw_losses(rows)))
    lines = [e for e in root if e.tag == "polyline"]
    assert [len((e.get("points") or "").split()) for e in lines] == [15, 0, 30]
    flat = [replace(row, loss_fused=0.5, loss_best=None) for row in rows]
    ET.fromstring(str(draw_losses([*flat, replace(flat[0], loss_fused=float("inf"))])))


def test_a_history_that_cannot_be_written_is_said_and_fails_nothing(project, capsys):
    result = run_project(project)
    blocked = project / "merged" / "index.html"
    (blocked / "x").mkdir(parents=True)
    follow_up(load_recipe(project / "recipe.yaml"), "2026-11-24", result)
    assert "warning  the history was not written: " in capsys.readouterr().err
    (blocked / "x").rmdir()
    blocked.rmdir()
    follow_up(load_recipe(project / "recipe.yaml"), "2026-11-24", result)
    assert capsys.readouterr().err == ""
    assert f"runs/{result.run}/report.html" in blocked.read_text()


def test_the_verb_lists_filters_and_rebuilds(tmp_path, capsys):
    nights(open_store(str(tmp_path)))
    code, out, _ = read(capsys, "history", tmp_path)
    assert (code, len(out.splitlines())) == (0, 5)
    assert "+0.0214 to +0.0690" in out
    assert not (tmp_path / HISTORY_KEY).exists()
    assert call(capsys, "history", tmp_path, "--write")[0] == 0
    assert (tmp_path / INDEX_KEY).exists()
    code, said = call(capsys, "history", tmp_path, "--within", "1h")
    assert (code, len(said["runs"])) == (0, 4)
    assert call(capsys, "history", tmp_path, "--within", "0s") == (
        3, {"output": str(tmp_path), "runs": []},
    )  # fmt: skip
    code, out, _ = read(capsys, "history", tmp_path, "--last", "1")
    assert "3 older ones: --last 0 shows all" in out
    assert call(capsys, "history", tmp_path / "none")[1]["runs"] == []
