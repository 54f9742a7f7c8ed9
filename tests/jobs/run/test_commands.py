"""Every command that a run recommends works in the state that the run has left."""

import html
import re
import shlex
import shutil

import pytest

from jobs.commands.run import find_commands
from jobs.models.lstm import save_lstm
from jobs.recipes.recipe import load_recipe
from tests.support.calling import call, edit_recipe
from tests.support.running import run_project
from tests.support.tiny_adapters import write_adapter_project
from tests.support.tiny_lstm import LABELS, train_base

WILL_PASS = "gate: {mode: non_inferior, margin: 9}"
HELD, REFUSED = "gate: {smallest_effect: 9}", "gate: {smallest_effect: 0, alpha: 0.00001}"


def told(project, result):
    """Commands by where they stand: page, Markdown, report, terminal."""
    page = project / "merged" / "runs" / result.run / "report.html"
    places = {
        "terminal": [c for _, c in find_commands(load_recipe(project / "recipe.yaml"), result)]
    }
    if page.exists():
        boxes = re.findall(r"<pre>(.*?)</pre>", page.read_text())
        places["page"] = [html.unescape(box) for box in boxes]
        note = page.with_name("report.md").read_text().partition("\nNext:\n")[2]
        places["note"] = re.findall(r"(?m)^ {4}(.+)$", note)
        assert places["page"] == places["note"] == [c for _, c in result.report.commands]
    assert all(places.values())
    return places


def check_all(capsys, monkeypatch, project, result):
    """Type each of them, every time in the state that the run has left."""
    kept = project / "kept"
    shutil.copytree(project / "merged", kept)
    verbs = set()
    for command in dict.fromkeys(c for found in told(project, result).values() for c in found):
        name, *arguments = shlex.split(command)
        assert name == "metafuse"
        shutil.rmtree(project / "merged")
        shutil.copytree(kept, project / "merged")
        desk = project / f"desk-{len(verbs)}"
        desk.mkdir(exist_ok=True)
        monkeypatch.chdir(desk)
        status, out, err = call(capsys, *arguments)
        assert status == 0, (command, err)
        assert out.strip(), command
        verbs.add(arguments[0])
    return verbs


def add_gate(project, gate):
    recipe = project / "recipe.yaml"
    lines = [line for line in recipe.read_text().splitlines() if not line.startswith("gate:")]
    recipe.write_text("\n".join([*lines, gate]) + "\n")


@pytest.mark.parametrize(
    ("gate", "ended", "verbs"),
    [
        ("gate: {}", "promoted", {"resolve", "pull", "predict"}),
        ("gate: {first: hold}", "held", {"predict", "promote"}),
        (REFUSED, "refused", {"predict", "promote"}),
    ],
)
def test_what_a_first_run_recommends_works(capsys, monkeypatch, project, gate, ended, verbs):
    add_gate(project, gate)
    result = run_project(project)
    assert result.outcome.result == ended
    assert check_all(capsys, monkeypatch, project, result) == verbs


def test_what_is_recommended_where_a_candidate_is_kept_works(capsys, monkeypatch, project):
    shutil.rmtree(project / "candidates")
    for seed in range(3):
        save_lstm(project / f"candidates/seed-{seed}", *train_base(seed=seed), LABELS)
    result = run_project(project)
    assert (result.outcome.result, result.report.verdict.reason) == ("held", "not_better")
    assert result.report.headline.startswith("Keep candidate seed-")
    assert check_all(capsys, monkeypatch, project, result) == {"predict", "promote"}


@pytest.fixture(scope="module")
def adapter_project(tmp_path_factory):
    return write_adapter_project(tmp_path_factory.mktemp("adapters"), output="adapter")


@pytest.mark.parametrize(
    ("gate", "ended", "verbs"),
    [
        ("gate: {}", "promoted", {"resolve", "pull", "predict"}),
        ("gate: {first: hold}", "held", {"predict", "promote"}),
    ],
)
def test_what_is_recommended_for_a_fused_adapter_works(
    capsys, monkeypatch, adapter_project, tmp_path, gate, ended, verbs
):
    project = tmp_path / "project"
    shutil.copytree(adapter_project, project)
    add_gate(project, gate)
    result = run_project(project)
    assert result.outcome.result == ended
    (ask,) = [c for _, c in result.report.commands if c.startswith("metafuse predict ")]
    assert shlex.split(ask)[3:5] == ["--base", str(project / "base")]
    assert check_all(capsys, monkeypatch, project, result) == verbs


@pytest.mark.slow
def test_what_is_recommended_for_adapters_that_became_a_model_needs_no_base(
    capsys, monkeypatch, adapter_project, tmp_path
):
    project = tmp_path / "project"
    shutil.copytree(adapter_project, project)
    edit_recipe(project, "{output: adapter}", "{output: model}")
    result = run_project(project)
    assert all("--base" not in command for _, command in result.report.commands)
    shutil.rmtree(project / "base")
    assert "predict" in check_all(capsys, monkeypatch, project, result)


@pytest.fixture(scope="module")
def after_one(_template, tmp_path_factory):
    """A project with a promoted model."""
    folder = tmp_path_factory.mktemp("after") / "project"
    shutil.copytree(_template, folder)
    assert run_project(folder, date="2026-11-23").outcome.result == "promoted"
    return folder


@pytest.fixture
def later(after_one, tmp_path):
    shutil.copytree(after_one, tmp_path / "project")
    edit_recipe(tmp_path / "project", "output: merged", "output: merged\nweights: {rule: uniform}")
    return tmp_path / "project"


@pytest.mark.parametrize(
    ("gate", "ended"), [(WILL_PASS, "promoted"), (HELD, "held"), (REFUSED, "refused")]
)
def test_what_a_later_run_recommends_works(capsys, monkeypatch, later, gate, ended):
    add_gate(later, gate)
    result = run_project(later)
    assert result.outcome.result == ended
    verbs = {"resolve", "pull", "predict"} | ({"promote"} if ended != "promoted" else set())
    assert check_all(capsys, monkeypatch, later, result) == verbs


def test_what_is_recommended_after_a_rollback_works(capsys, monkeypatch, later):
    add_gate(later, WILL_PASS)
    run_project(later)
    status, *_ = call(capsys, "rollback", later / "merged", "--reason", "complaints")
    assert status == 0
    edit_recipe(later, "{rule: uniform}", "{rule: softmax, temperature: 0.05}")
    result = run_project(later, date="2026-11-25")
    assert (result.outcome.result, result.report.verdict.decision) == ("hold", "PROMOTE")
    assert "promote" in check_all(capsys, monkeypatch, later, result)


def test_what_is_recommended_where_nothing_is_new_works(capsys, monkeypatch, after_one, project):
    known = run_project(after_one, date="2026-11-24")
    assert (known.exit_status, known.report) == (3, None)
    assert check_all(capsys, monkeypatch, after_one, known) == {"resolve"}
    add_gate(project, "gate: {first: hold}")
    run_project(project)
    again = run_project(project)
    assert (again.exit_status, again.report) == (3, None)
    assert [c for _, c in find_commands(load_recipe(project / "recipe.yaml"), again)] == [
        shlex.join(("metafuse", "status", str(project / "merged")))
    ]


def test_the_document_of_a_model_card_can_be_merged(capsys, after_one, tmp_path):
    (card,) = (after_one / "merged" / "runs").glob("*/model-*/README.md")
    document = tmp_path / "again.yaml"
    document.write_text(card.read_text().split("```yaml\n")[1].split("```")[0])
    status, _, err = call(capsys, "merge", document, tmp_path / "again")
    assert status == 0, err
