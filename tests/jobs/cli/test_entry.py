import os
import subprocess
import sys
from pathlib import Path

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
