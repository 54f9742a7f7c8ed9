import os
import subprocess
import sys
from pathlib import Path

import pytest

import jobs

ROOT = Path(jobs.__file__).parents[1]


def test_packages_of_another_on_the_path_do_not_stand_before_ours(tmp_path):
    for name in ("fusion", "cluster"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "__init__.py").write_text("raise ImportError('not ours')")
    start = "from jobs.cli.entry import main; main()"
    done = subprocess.run(
        [sys.executable, "-P", "-c", start, "resolve", str(tmp_path / "nothing"), "--json"],
        capture_output=True,
        text=True,
        env={**os.environ, "PYTHONPATH": f"{tmp_path}:{ROOT}"},
        check=False,
    )
    assert done.returncode == 13, done.stderr
    assert "not ours" not in done.stderr


@pytest.mark.parametrize(
    ("verb", "words"),
    [("predict", "stopped; nothing of it is kept\nhint     the same command starts anew"),
     ("run", "stopped; what was done is kept\nhint     the same command continues")],
)  # fmt: skip
def test_a_stopped_verb_promises_only_what_it_keeps(verb, words):
    start = (
        "import os, signal\n"
        "from jobs.cli import signals\n"
        "from jobs.cli.group import finish\n"
        "signal.signal(signal.SIGTERM, signals.interrupt)\n"
        "finish(lambda: os.kill(os.getpid(), signal.SIGTERM) or signal.pause(), as_json=False)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", start, verb], capture_output=True, text=True, check=False,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )  # fmt: skip
    assert done.returncode == 130
    assert words in done.stderr
    assert "Traceback" not in done.stderr


def test_a_stream_that_does_not_know_a_letter_shows_its_number(tmp_path):
    start = "from jobs.cli.entry import main; main()"
    done = subprocess.run(
        [sys.executable, "-c", start, "resolve", str(tmp_path / "caf\u00e9")],
        capture_output=True, text=True, check=False,
        env={**os.environ, "PYTHONPATH": str(ROOT), "PYTHONIOENCODING": "ascii"},
    )  # fmt: skip
    assert done.returncode == 13
    assert "caf\\xe9" in done.stderr
