"""The kind of task in docs/tasks.md, word for word, in a run on Ray."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.calling import edit_recipe
from tests.support.killing import ROOT
from tests.support.waiting import LONG

PAGE = ROOT / "docs" / "tasks.md"


@pytest.mark.ray
@pytest.mark.xdist_group("ray")
@pytest.mark.long
def test_the_documented_kind_runs_on_workers(project):
    (code,) = re.findall(r"```python\n# own_kinds\.py\n(.*?)```", PAGE.read_text(), re.DOTALL)
    modules = project / "modules"
    modules.mkdir()
    (modules / "own_kinds.py").write_text(code)
    edit_recipe(project, "kind: text-classification", 'kind: "own_kinds:BRIER"')
    path = os.pathsep.join([str(modules), str(ROOT)])
    done = subprocess.run(
        [sys.executable, "-m", "jobs", "run", str(project / "recipe.yaml"), "--json"],
        env={**os.environ, "PYTHONPATH": path},
        cwd=project,
        capture_output=True,
        text=True,
        check=False,
        timeout=LONG,
    )
    assert done.returncode == 0, done.stderr
    report = json.loads(next(Path(project, "merged").glob("runs/*/report.json")).read_bytes())
    assert report["loss"] == "mean Brier score"
    # Below that of knowing the shares of the two classes alone.
    assert all(0 < row["gate"]["loss"] < 0.5 for row in report["models"])
