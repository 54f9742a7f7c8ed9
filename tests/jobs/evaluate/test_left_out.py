"""A run tells what the recipe names and it cannot use, with the reason; the others go on."""

import json
import shutil

import pytest

from tests.support.calling import call, edit_recipe, plan
from tests.support.running import run_project


def test_a_pattern_that_matches_nothing_is_named_by_plan_run_and_report(capsys, project):
    edit_recipe(project, "[candidates/*]", "[candidates/*, nope/*, gone/seed-9]")
    status, out, _ = plan(capsys, project)
    assert status == 0
    assert f"skip       {project}/nope/*: E-NOT-FOUND matched nothing: nothing is there" in out
    assert f"skip       {project}/gone/seed-9: E-NOT-FOUND matched nothing" in out
    result = run_project(project)
    rows = {row.name: row for row in result.report.candidates}
    assert rows[f"{project}/nope/*"].status == "skipped"
    assert "matched nothing" in rows[f"{project}/nope/*"].reason
    assert f"{project}/gone/seed-9" in rows
    from jobs.report.table import show_report_table

    show_report_table(result.report)
    assert "nope/*" in capsys.readouterr().out


def test_a_model_that_is_not_there_is_not_left_out_of_an_ensemble_in_silence(capsys, project):
    models = [project / "candidates" / name for name in ("a", "nope")]
    status, out, err = call(capsys, "predict", *models, "--text", "good")
    assert (status, out) == (13, "")
    assert "nope: E-NOT-FOUND matched nothing" in err


def test_a_folder_without_a_config_is_left_out_where_others_have_one(capsys, project):
    (project / "candidates" / "a" / "config.json").unlink()
    status, out, _ = plan(capsys, project)
    assert status == 0
    assert "skip       a: E-INCOMPLETE" in out
    assert "has no config.json, 3 others have one" in out


def test_a_kind_of_its_own_is_still_refused(capsys, project):
    path = project / "candidates" / "a" / "config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "model_type": "other"}))
    assert plan(capsys, project)[0] == 12


def test_where_no_candidate_has_a_config_none_is_left_out_for_it(capsys, project):
    for name in "abcd":
        (project / "candidates" / name / "config.json").unlink()
    _, out, _ = plan(capsys, project)
    assert "has no config.json" not in out


@pytest.mark.long
def test_an_evaluation_that_lost_a_named_checkpoint_does_not_end_well(capsys, project):
    ask = ["evaluate", project / "candidates/nope", project / "candidates/b", "--task",
           project / "recipe.yaml"]  # fmt: skip
    status, out, _ = call(capsys, *ask)
    assert status == 13
    assert "nope: E-NOT-FOUND matched nothing" in out
    assert "  b  " in out
    shutil.copytree(project / "candidates/a", project / "candidates/nope")
    assert call(capsys, *ask)[0] == 0


def test_plan_and_report_say_how_many_sources_are_read_with_a_check(capsys, project):
    said = "source files carry a digest, they are read unchecked"
    assert f"0 of 4 {said}" in plan(capsys, project)[1]
    run_project(project, date="2026-11-24")
    for name in ("report.md", "report.html"):
        text = (project / "merged/runs/nightly-2026-11-24" / name).read_text()
        assert said in text, name
