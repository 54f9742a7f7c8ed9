"""The demonstration, whole, on embedded Ray."""

import json
import shlex
from pathlib import Path

import pytest

from fusion.canonical import from_json
from fusion.manifests.report import RunReport
from jobs.cli.main import main

pytestmark = [pytest.mark.ray, pytest.mark.xdist_group("ray")]


def run_demo(capsys, folder, seed):
    with pytest.raises(SystemExit) as left:
        main(["demo", str(folder), "--seed", str(seed), "--json"])
    return left.value.code, json.loads(capsys.readouterr().out)


def check_demo(capsys, folder, seed):
    status, told = run_demo(capsys, folder, seed)
    assert status == 0
    assert told["result"] == "promoted", told["reason"]
    (content,) = (folder / "merged" / "runs").glob("*/report.json")
    report = from_json(RunReport, content.read_bytes())
    page = (folder / "merged" / "index.html").read_text()
    assert f'href="runs/{report.run}/report.html"' in page
    rows = {row.name: row for row in report.candidates}
    assert sum(row.status == "kept" for row in rows.values()) == 4
    assert "no better than guessing" in rows["bad-lr-1"].reason
    assert "looks damaged: absmax" in rows["bit-rot"].reason
    assert report.published[0].loss == 0.9264
    models = {row.role: row.gate.loss for row in report.models}
    assert models["fused"] < models["best_single"]
    (command,) = [command for what, command in report.commands if what == "ask the fused model"]
    assert ask_as_told(capsys, command)[0]["answer"] == "positive"


def ask_as_told(capsys, command):
    """Answers to a command of the report."""
    _, *arguments = shlex.split(command)
    with pytest.raises(SystemExit):
        main([*arguments, "--json"])
    return [json.loads(line) for line in capsys.readouterr().out.splitlines()]


def test_the_readme_asks_what_the_demo_answers():
    assert '--text "What a great phone, I love it!"' in Path("README.md").read_text()


@pytest.mark.long
def test_the_demo_ends_promoted(capsys, tmp_path):
    check_demo(capsys, tmp_path / "demo", 0)


@pytest.mark.slow
@pytest.mark.parametrize("seed", [1, 2, 3, 4])
def test_the_demo_ends_promoted_on_other_seeds(capsys, tmp_path, seed):
    check_demo(capsys, tmp_path / "demo", seed)


def test_a_folder_that_is_not_empty_is_left_alone(capsys, tmp_path):
    (tmp_path / "mine").write_text("precious")
    with pytest.raises(SystemExit) as left:
        main(["demo", str(tmp_path)])
    assert left.value.code == 21
    assert "not empty" in capsys.readouterr().err
    assert [path.name for path in tmp_path.iterdir()] == ["mine"]
