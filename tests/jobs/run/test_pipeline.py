import json
import math
import os
import shutil
import struct

import pytest
from safetensors.torch import load_file, save_file
from torch.nn.functional import pad

from cluster.stores.seals import NUM_BLOCKS, WHOLE_BYTES
from fusion.canonical import from_json, to_json
from fusion.errors import NonFiniteError
from fusion.manifests.model import ModelManifest
from fusion.manifests.pointer import Pointer
from fusion.manifests.report import RunReport
from jobs.consume.pull import pull
from jobs.consume.resolve import resolve
from jobs.errors import RecipeError, SourceChangedError
from tests.support.calling import call
from tests.support.near_copies import copy_changed
from tests.support.running import run_project
from tests.support.tiny_models import edit_config


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
    shutil.rmtree(project / "candidates" / "d")
    result = run_project(project, date="2026-11-25")
    roles = [comparison.role for comparison in result.report.verdict.comparisons]
    assert roles == ["incumbent", "best_candidate"]
    assert result.exit_status in (4, 5)  # three of the four candidates do not beat all four
    pointer = from_json(Pointer, (project / "merged" / "latest.json").read_bytes())
    assert pointer.run == "nightly-2026-11-24"


def test_a_night_that_would_make_the_promoted_model_again_merges_nothing(project):
    first = run_project(project)
    steps = []
    result = run_project(project, date="2026-11-25", say=lambda step, *_: steps.append(step))
    assert (result.exit_status, result.outcome.result) == (3, "nothing_new")
    assert f"the promoted model of {first.run}" in result.outcome.reason
    assert not [step for step in steps if step.startswith("merge")]
    run = project / "merged" / "runs" / result.run
    assert not list(run.glob("model-*"))
    assert json.loads((run / "outcome.json").read_text())["exit_status"] == 3
    again = run_project(project, date="2026-11-25")
    assert (again.run, again.exit_status, again.outcome) == (result.run, 3, result.outcome)


def test_nothing_new_is_told_with_its_reason_and_no_report_that_is_not_there(capsys, project):
    run_project(project)
    run_project(project, date="2026-11-25")
    status, out, _ = call(capsys, "run", project / "recipe.yaml", "--date", "2026-11-25")
    assert status == 3
    assert "nightly-2026-11-25: nothing new: this plan is the promoted model of" in out
    assert "report" not in out
    _, out, _ = call(capsys, "run", project / "recipe.yaml", "--date", "2026-11-25", "--json")
    assert json.loads(out)["report"] is None


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
    pull(str(project / "merged"), target)
    before = {path.name: path.stat().st_mtime_ns for path in target.iterdir()}
    pull(str(project / "merged"), target)
    after = {path.name: path.stat().st_mtime_ns for path in target.iterdir()}
    changed = {name for name in before if before[name] != after[name]}
    assert changed <= {"manifest.json"}
    assert {"config.json", "model.safetensors", "vocab.txt", "README.md"} <= set(before)


def test_a_candidate_called_like_the_promoted_run_is_not_mixed_up_with_it(project):
    run_project(project)
    copy_changed(project / "candidates/a", project / "candidates/nightly-2026-11-24")
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


def widen(folder):
    """Give the model rows for words that no text has, so that its file has more than one block."""
    tensors = load_file(folder / "model.safetensors")
    tensors["embedding.weight"] = pad(tensors["embedding.weight"], (0, 0, 0, 20_000))
    save_file(tensors, folder / "model.safetensors")
    edit_config(folder, vocab_size=len(tensors["embedding.weight"]))


def rot_after_evaluation(project):
    """A `say` that damages candidate a on the disk once its scores are there.

    One element of the file becomes NaN, between the blocks that its pin has a checksum of; size,
    inode and modification time stay, so the pin holds as it does when a disk forgets a bit.
    """
    path = project / "candidates/a/model.safetensors"
    for folder in (project / "candidates").iterdir():
        widen(folder)

    def say(step, done, total, *_):
        if step == "evaluate on rank" and done == total:
            facts = path.stat()
            with path.open("r+b") as stream:
                stream.seek(WHOLE_BYTES + (facts.st_size - WHOLE_BYTES) // NUM_BLOCKS // 2 // 4 * 4)
                stream.write(struct.pack("<f", math.nan))
            os.utime(path, ns=(facts.st_atime_ns, facts.st_mtime_ns))

    return say


def test_a_nan_that_evaluation_did_not_see_starts_an_attempt_without_the_candidate(project):
    recipe = project / "recipe.yaml"
    recipe.write_text(recipe.read_text() + "merge: {on_nonfinite: exclude_and_reweight}\n")
    result = run_project(project, say=rot_after_evaluation(project))
    assert result.run == "nightly-2026-11-24.2"
    rows = {row.name: row for row in result.report.candidates}
    assert rows["a"].status == "skipped"
    assert {n for n, row in rows.items() if row.status == "kept"} == {"b", "c", "d"}
    first = json.loads((project / "merged/runs/nightly-2026-11-24/outcome.json").read_text())
    assert first["result"] == "nonfinite"
    assert not list((project / "merged/runs/nightly-2026-11-24").glob("model-*/manifest.json"))


def test_a_nan_that_evaluation_did_not_see_stops_the_run_by_default(project):
    with pytest.raises(NonFiniteError, match="of a has 1 NaN") as caught:
        run_project(project, say=rot_after_evaluation(project))
    assert caught.value.checkpoint == "a"
    assert caught.value.tensor in str(caught.value)
    assert not (project / "merged" / "latest.json").exists()
    assert not list(project.glob("merged/runs/*/model-*/manifest.json"))


def test_the_report_tells_how_near_the_candidates_are_to_the_fused_model(project):
    report = run_project(project).report
    summary = report.health.summary
    assert {c.name for c in summary.candidates} == set("abcd")
    assert all(0.5 < candidate.cosine < 1 for candidate in summary.candidates)
    # Each candidate is a good model and as much noise: the noise averages out.
    assert summary.norm_ratio < 0.95
    assert len(summary.warnings) == 1
    manifests = list(project.glob("merged/runs/*/model-*/manifest.json"))
    assert [from_json(ModelManifest, path.read_bytes()).health for path in manifests] == [
        report.health
    ]


def test_another_model_promoted_meanwhile_is_judged_against(project):
    """Another driver promotes between the judgement and the promotion."""
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
