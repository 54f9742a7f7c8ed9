"""A run that was interrupted goes on with what it froze, whatever has happened beside it since."""

import json
import shutil

import pytest

from cluster.errors import ThrottledError
from cluster.stores.open_store import open_store
from cluster.workers.runner import Done, SerialRunner
from fusion.canonical import from_json
from fusion.manifests.pointer import Pointer
from fusion.manifests.report import RunReport
from jobs.consume.resolve import resolve
from jobs.errors import DataError, LockedError, SourceChangedError
from jobs.outputs.pointer import read_pointer
from tests.support.checkpoints import PICKLE
from tests.support.near_copies import copy_changed
from tests.support.running import run_project
from tests.support.tiny_lstm import RECIPE, write_project

RUN = "merged/runs/nightly-2026-11-24"


class Stop(Exception):
    pass


def stop_at(words):
    def say(step, *_):
        if step.startswith(words):
            raise Stop

    return say


def interrupt(project, words="merge"):
    with pytest.raises(Stop):
        run_project(project, say=stop_at(words))


def outcome_of(project):
    return json.loads((project / RUN / "outcome.json").read_text())


def test_bad_candidates_that_appear_beside_an_unfinished_run_are_left_for_the_next(project):
    interrupt(project)
    shutil.copytree(project / "candidates/a", project / "candidates/later")
    pickled = project / "candidates/pickled"
    pickled.mkdir()
    (pickled / "pytorch_model.bin").write_bytes(PICKLE)
    result = run_project(project)
    assert (result.run, result.outcome.result) == ("nightly-2026-11-24", "promoted")
    (note,) = [note for note in result.report.notes if "left for the next" in note]
    assert "candidates/later" in note
    assert "candidates/pickled" in note
    assert "later" not in {row.name for row in result.report.candidates}


def test_frozen_candidates_that_are_gone_end_the_run_with_the_reason(project):
    interrupt(project)
    for name in ("b", "c", "d"):
        shutil.rmtree(project / "candidates" / name)
    with pytest.raises(SourceChangedError, match=r"candidates/b/.* is gone now"):
        run_project(project)
    assert outcome_of(project)["exit_status"] == 20


def test_evaluation_data_that_is_gone_ends_the_run_with_the_reason(project):
    interrupt(project, "evaluate on gate")
    (project / "data/eval.parquet").unlink()
    with pytest.raises(SourceChangedError, match=r"eval\.parquet"):
        run_project(project)
    assert outcome_of(project)["result"] == "source_changed"


@pytest.mark.parametrize("path", ["candidates/b/model.safetensors", "data/eval.parquet"])
def test_what_changes_during_the_evaluation_ends_the_run(project, path):
    changed = project / path

    def say(step, done, *_):
        if step.startswith("evaluate on rank") and done == 1:
            changed.write_bytes(changed.read_bytes())

    with pytest.raises(SourceChangedError, match=changed.name):
        run_project(project, say=say)
    assert outcome_of(project)["result"] == "source_changed"
    assert not (project / "merged/latest.json").exists()


class Throttled(SerialRunner):
    """A cluster whose store keeps saying "slow down"."""

    def run_tasks(self, function, items, /, *, resources, workers):
        for index, _ in enumerate(items):
            yield Done(index, None, ThrottledError("slow down"), 0.1, "here")


def test_a_passing_fault_of_the_store_ends_no_run(project):
    with pytest.raises(ThrottledError):
        run_project(project, runner=Throttled())
    assert not (project / RUN / "outcome.json").exists()
    assert run_project(project).run == "nightly-2026-11-24"


def test_a_mistake_in_the_data_is_found_before_the_run_begins(project):
    recipe = project / "recipe.yaml"
    recipe.write_text(RECIPE.replace("label: label", "label: lable"))
    with pytest.raises(DataError, match="did you mean 'label'"):
        run_project(project)
    assert not (project / "merged/runs").exists()
    recipe.write_text(RECIPE)
    assert run_project(project).run == "nightly-2026-11-24"


def test_a_driver_that_wakes_from_the_dead_changes_nothing_that_is_promoted(project):
    """The first is silent before its report; another takes over and promotes; the first goes on."""
    inner = []

    def say(step, done, *_):
        if step == "report" and done == 0 and not inner:
            inner.append(True)
            (project / "merged/lease.json").unlink()
            inner.append(run_project(project))

    with pytest.raises(LockedError, match="taken over"):
        run_project(project, say=say)
    assert inner[1].outcome.result == "promoted"
    assert resolve(str(project / "merged")).pointer.epoch == 1
    page = project / RUN / "report.json"
    assert from_json(RunReport, page.read_bytes()) == inner[1].report


def test_a_run_that_was_promoted_but_could_not_say_so_computes_nothing(project):
    done = run_project(project)
    (project / RUN / "outcome.json").unlink()

    def no_workers():
        raise AssertionError("nothing is left to compute")

    again = run_project(project, make_runner=no_workers)
    assert (again.exit_status, again.outcome.result) == (0, "promoted")
    assert again.report == done.report
    assert from_json(Pointer, (project / "merged/latest.json").read_bytes()).epoch == 1


def test_a_resumed_judgement_is_the_one_that_was_written(project):
    """Killed between report and promotion: what was judged stands, times and all."""

    def die(step, done, *_):
        if step == "report" and done == 1:
            raise Stop

    with pytest.raises(Stop):
        run_project(project, say=die)
    before = (project / RUN / "report.json").read_bytes()
    result = run_project(project)
    assert result.outcome.result == "promoted"
    assert (project / RUN / "report.json").read_bytes() == before
    assert not list((project / RUN).glob("baseline-*"))


def test_candidates_whose_names_differ_by_a_slash_keep_their_own_records(project):
    places = ["candidates/a", "candidates/x/y", "candidates/z/y", "candidates/x_y"]
    for number, place in enumerate(places[1:]):
        times = 1.0 + (number + 1) * 2.0**-10
        copy_changed(project / "candidates/b", project / place, times=times)
    recipe = project / "recipe.yaml"
    recipe.write_text(RECIPE.replace("[candidates/*]", f"[{', '.join(places)}]"))
    result = run_project(project)
    assert {row.name for row in result.report.candidates} == {"a", "x/y", "z/y", "x_y"}
    files = {path.name for path in (project / RUN / "scores").glob("*-rank.parquet")}
    assert files == {f"{name}-rank.parquet" for name in ("a", "x%2Fy", "z%2Fy", "x_y")}


@pytest.mark.s3
@pytest.mark.long
def test_with_versions_a_run_goes_on_under_its_pins(tmp_path, moto, use):
    use(moto)
    write_project(tmp_path / "p")
    project = tmp_path / "p"
    store = open_store("s3://versioned/project")
    for path in project.rglob("*"):
        if path.is_file() and path.name != "recipe.yaml":
            store.put(path.relative_to(project).as_posix(), path.read_bytes())
    recipe = RECIPE.replace("[candidates/*]", "[s3://versioned/project/candidates/*]")
    recipe = recipe.replace("data/eval", "s3://versioned/project/data/eval")
    recipe = recipe.replace("output: merged", "output: s3://versioned/project/merged")
    (project / "recipe.yaml").write_text(recipe)
    undisturbed = run_project(project, date="2026-11-20")
    output = open_store("s3://versioned/project/merged")
    output.delete("latest.json")
    interrupt(project)
    store.put("candidates/a/model.safetensors", b"something else")
    result = run_project(project)
    assert (result.run, result.outcome.result) == ("nightly-2026-11-24", "promoted")
    assert result.report.merge.plan == undisturbed.report.merge.plan
    assert read_pointer(output).pointer.run == "nightly-2026-11-24"
