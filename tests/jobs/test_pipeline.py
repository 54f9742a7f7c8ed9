import json
import shutil

import pytest

import jobs.merge_worker
from fusion.canonical import from_json, to_json
from fusion.errors import NonFiniteError
from fusion.manifest import Pointer, RunReport
from jobs.errors import RecipeError, SourceChangedError
from jobs.operate import pull, resolve
from tests.support.running import run_project


def test_a_better_average_is_promoted_and_told_about(project):
    result = run_project(project)
    assert (result.exit_status, result.outcome.result) == (0, "promoted")
    run = project / "merged" / "runs" / "nightly-2026-11-24"
    pointer = from_json(Pointer, (project / "merged" / "latest.json").read_bytes())
    assert pointer.run == "nightly-2026-11-24"
    assert (run / "report.html").read_text().startswith("<!doctype html>")
    report = from_json(RunReport, (run / "report.json").read_bytes())
    assert report.verdict.decision == "PROMOTE"
    assert {m.role for m in report.models} >= {"fused", "uniform", "ensemble", "best_single"}
    assert not list(run.glob("baseline-*"))
    assert resolve(str(project / "merged")).uri.startswith(str(run / "model-"))


def test_the_second_call_finds_nothing_new(project):
    run_project(project)
    again = run_project(project)
    assert (again.exit_status, again.report) == (3, None)


def test_the_next_night_is_judged_against_the_promoted_model(project):
    run_project(project)
    result = run_project(project, date="2026-11-25")
    roles = [comparison.role for comparison in result.report.verdict.comparisons]
    assert roles == ["incumbent", "best_candidate"]
    assert result.exit_status in (4, 5)  # the same candidates again cannot beat themselves
    pointer = from_json(Pointer, (project / "merged" / "latest.json").read_bytes())
    assert pointer.run == "nightly-2026-11-24"


def test_a_replaced_candidate_starts_a_second_attempt(project):
    run_project(project)
    path = project / "candidates" / "a" / "vocab.txt"
    path.write_text(path.read_text())
    result = run_project(project)
    assert result.run == "nightly-2026-11-24.2"


def test_a_candidate_replaced_under_an_unfinished_run_ends_it(project):
    class Stop(Exception):
        pass

    def stop_at_merge(step, *_):
        if step.startswith("merge"):
            raise Stop

    with pytest.raises(Stop):
        run_project(project, say=stop_at_merge)
    shutil.copy(project / "candidates/b/model.safetensors", project / "candidates/a/copy")
    (project / "candidates/a/copy").replace(project / "candidates/a/model.safetensors")
    with pytest.raises(SourceChangedError, match=r"candidates/a/model\.safetensors was"):
        run_project(project)
    outcome = json.loads((project / "merged/runs/nightly-2026-11-24/outcome.json").read_text())
    assert outcome["result"] == "source_changed"
    assert run_project(project).run == "nightly-2026-11-24.2"


def test_pull_brings_the_promoted_model_and_repeats_nothing(project, tmp_path):
    run_project(project)
    target = tmp_path / "here"
    pull(str(project / "merged"), target, on_file=lambda *_: None)
    before = {path.name: path.stat().st_mtime_ns for path in target.iterdir()}
    pull(str(project / "merged"), target, on_file=lambda *_: None)
    after = {path.name: path.stat().st_mtime_ns for path in target.iterdir()}
    changed = {name for name in before if before[name] != after[name]}
    assert changed <= {"manifest.json"}
    assert {"config.json", "model.safetensors", "vocab.txt", "README.md"} <= set(before)


def test_a_candidate_called_like_the_promoted_run_is_not_mixed_up_with_it(project):
    run_project(project)
    shutil.copytree(project / "candidates/a", project / "candidates/nightly-2026-11-24")
    result = run_project(project, date="2026-11-25")
    incumbent, best = result.report.verdict.comparisons
    assert (incumbent.role, incumbent.reference) == ("incumbent", "nightly-2026-11-24")
    rows = {row.role: row.gate.loss for row in result.report.models}
    assert rows["incumbent"] < rows["best_single"]
    assert best.mean > incumbent.mean


def test_a_candidate_cannot_take_the_name_of_a_model_of_the_run(project):
    shutil.copytree(project / "candidates/a", project / "candidates/(fused)")
    with pytest.raises(RecipeError, match=r"cannot be called \(fused\)"):
        run_project(project)


def test_a_nan_while_merging_starts_an_attempt_without_the_candidate(project, monkeypatch):
    """The evaluation saw whole bytes; the merge meets a NaN."""
    recipe = project / "recipe.yaml"
    recipe.write_text(recipe.read_text() + "merge: {on_nonfinite: exclude_and_reweight}\n")
    real = jobs.merge_worker.MergeWorker._check_finite

    def damaged(self, chunk, inputs, out, largest):
        names = [c.name for c in self._job.plan.request.checkpoints]
        if "a" in names:
            raise NonFiniteError("1 NaN", "", "a", chunk.placed.tensor.name)
        real(self, chunk, inputs, out, largest)

    monkeypatch.setattr(jobs.merge_worker.MergeWorker, "_check_finite", damaged)
    result = run_project(project)
    assert result.run == "nightly-2026-11-24.2"
    rows = {row.name: row for row in result.report.candidates}
    assert rows["a"].status == "skipped"
    assert {n for n, row in rows.items() if row.status == "kept"} == {"b", "c", "d"}


def test_a_nan_while_merging_stops_the_run_by_default(project, monkeypatch):
    def damaged(self, chunk, inputs, out, largest):
        raise NonFiniteError("1 NaN", "", "a", chunk.placed.tensor.name)

    monkeypatch.setattr(jobs.merge_worker.MergeWorker, "_check_finite", damaged)
    with pytest.raises(NonFiniteError):
        run_project(project)
    assert not (project / "merged" / "latest.json").exists()


def test_another_model_promoted_meanwhile_is_judged_against(project):
    """Between the judgement and the promotion somebody else promotes."""
    run_project(project, date="2026-11-20")
    pointer = project / "merged" / "latest.json"
    first = from_json(Pointer, pointer.read_bytes())
    pointer.unlink()
    seen = []

    def somebody_else(step, done, *_):
        seen.append((step, done))
        if step == "report" and seen.count(("report", 0)) == 1:
            pointer.write_bytes(to_json(first))

    result = run_project(project, date="2026-11-25", say=somebody_else)
    assert seen.count(("report", 0)) == 2
    roles = [c.role for c in result.report.verdict.comparisons]
    assert roles == ["incumbent", "best_candidate"]
