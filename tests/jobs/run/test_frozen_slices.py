"""One slicing a run: written by the first driver, read by all that evaluate, judge and report."""

import json
from dataclasses import replace

import pyarrow as pa
import pytest
from pyarrow import parquet

from cluster.stores.open_store import open_store
from cluster.workers.hands import Hands
from cluster.workers.runner import SerialRunner
from jobs.errors import SourceChangedError
from jobs.evaluate.record_files import load_records
from jobs.evaluate.rescoring import rescore
from jobs.evaluate.score import score_all
from jobs.tasks.examples import load_examples
from jobs.tasks.slicing import keep_slices, name_slices, parse_slices
from tests.jobs.evaluate.test_score import candidates, task_of
from tests.jobs.run.test_resume import RUN, interrupt, outcome_of
from tests.support.running import run_project


def slices_of(project):
    return parse_slices((project / RUN / "slices.parquet").read_bytes(), "here")


def records_of(project, name):
    found, _ = load_records(open_store(str(project / RUN / "scores")), f"{name}.parquet")
    return found


def repeat_some(project):
    """Give every fourth example of the data a text that it nearly shares with the one before."""
    path = project / "data" / "eval.parquet"
    table = parquet.read_table(path).to_pydict()
    for row in range(3, 400, 4):
        long = " ".join(f"{word} {row}" for word in table["text"][row].split() * 3)
        table["text"][row], table["text"][row - 1] = f"{long} indeed", long
    parquet.write_table(pa.table(table), path)


class Withdrawn(SerialRunner):
    """The data is gone once nothing has to be scored any more."""

    def __init__(self, path):
        self.path = path

    def run_tasks(self, function, items, /, *, resources, workers):
        yield from super().run_tasks(function, items, resources=resources, workers=workers)
        if function is rescore:
            self.path.unlink()


def test_the_report_counts_what_was_frozen_and_needs_no_data(project):
    repeat_some(project)
    result = run_project(project, runner=Withdrawn(project / "data" / "eval.parquet"))
    slices = slices_of(project)
    assert slices.repeated_rank > 0
    assert slices.repeated_select > 0
    assert slices.num_shared > 0
    assert result.report.slices == slices.counts
    notes = " ".join(result.report.notes)
    assert f"{slices.num_repeated} near-duplicates of examples in other slices" in notes
    assert f"{slices.num_shared} examples of the audit slice nearly repeat" in notes
    assert "examples of the evaluation data are left out" in notes
    assert (result.report.data, result.report.examples) == (None, ())
    for name in ("rank", "gate"):
        wanted = tuple(slices.ids[row] for row in slices.rows(name))
        assert records_of(project, f"a-{name}").ids == wanted
    table = parquet.read_table(project / RUN / "slices.parquet")
    assert table.column_names == ["id", "cluster", "slice"]


def test_a_run_that_is_taken_up_reads_the_slices_that_stand_there(project):
    interrupt(project, "evaluate on rank")
    before = (project / RUN / "slices.parquet").read_bytes()
    run_project(project)
    assert (project / RUN / "slices.parquet").read_bytes() == before


def test_slices_that_a_driver_had_no_time_to_write_are_made_again(project):
    interrupt(project, "evaluate on rank")
    path = project / RUN / "slices.parquet"
    before = path.read_bytes()
    path.unlink()
    assert run_project(project).outcome.result == "promoted"
    assert path.read_bytes() == before


@pytest.mark.parametrize("is_there", [True, False])
def test_other_slices_than_the_plan_has_end_the_run(project, is_there):
    interrupt(project, "evaluate on rank")
    plan = project / RUN / "plan.json"
    plan.write_text(plan.read_text().replace(slices_of(project).digest, "0" * 64))
    if not is_there:
        (project / RUN / "slices.parquet").unlink()
    with pytest.raises(SourceChangedError, match="not the slices that the run began with"):
        run_project(project)
    assert outcome_of(project)["result"] == "source_changed"
    assert run_project(project).run == "nightly-2026-11-24.2"


def test_a_run_of_an_older_release_ends_with_the_slices_of_its_records(project):
    task = make_task_of_older_rule(project)
    cache = project / "merged" / "scores"
    hands = Hands(SerialRunner(), 1)
    score_all(candidates(project), ["rank"], task, cache=str(cache), hands=hands)
    scored = {path.name: path.read_bytes() for path in cache.iterdir()}
    interrupt(project, "evaluate on rank")
    plan = project / RUN / "plan.json"
    older = json.loads(plan.read_text())
    del older["slices"]
    plan.write_text(json.dumps(older))
    (project / RUN / "slices.parquet").unlink()
    result = run_project(project)
    assert (result.run, result.outcome.result) == ("nightly-2026-11-24", "promoted")
    assert {path.name: path.read_bytes() for path in cache.glob("*-rank.parquet")} == scored
    slices, today = slices_of(project), load_examples(task_of(project)).sliced
    assert slices.counts["rank"] == today.counts["rank"] - 7
    assert slices.repeated_rank == today.repeated_rank + 7
    assert slices.rows("gate") == today.rows("gate")
    ids = tuple(slices.ids[row] for row in slices.rows("rank"))
    assert records_of(project, "a-rank").ids == records_of(project, "b-rank").ids == ids
    assert result.report.slices == slices.counts


def make_task_of_older_rule(project):
    """A task as an older release called it, whose rule dropped seven examples more from rank."""
    today = load_examples(task_of(project)).sliced
    gone = set(today.rows("rank")[:7])
    names = tuple("" if row in gone else name for row, name in enumerate(today.names))
    store = open_store(str(project / "older"))
    content = keep_slices(store, "x", replace(today, names=names))
    return replace(task_of(project), slices=name_slices(store, "x", content, digest=""))
