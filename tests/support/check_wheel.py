"""Is the built wheel whole, and does it run from an empty folder? Usage: check_wheel.py DIST."""

import os
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path

NEEDED = {
    "jobs/cli/main.py", "jobs/report/page.html.j2", "jobs/report/page.md.j2",
    "jobs/report/style.css.j2", "jobs/report/history.html.j2",
    "jobs/demo/demo_data/train.parquet", "jobs/demo/demo_data/evaluation.parquet",
    "jobs/demo/demo_data/LICENCE.md", "fusion/checkpoints/header.py", "cluster/stores/store.py",
    "jobs/py.typed", "fusion/py.typed", "cluster/py.typed",
}  # fmt: skip
ROOMS = ("jobs/", "fusion/", "cluster/", "metafuse-")
COMMANDS = (["--version"], ["--help"], ["doctor"])


def main() -> None:
    (wheel,) = Path(sys.argv[1]).glob("*.whl")
    (sdist,) = Path(sys.argv[1]).glob("*.tar.gz")
    with zipfile.ZipFile(wheel) as archive:
        names = set(archive.namelist())
        assert names >= NEEDED, NEEDED - names
        assert all(name.startswith(ROOMS) for name in names), names
        with tempfile.TemporaryDirectory() as folder:
            archive.extractall(folder)
            environment = {**os.environ, "PYTHONPATH": folder}
            for command in COMMANDS:
                done = subprocess.run(
                    [sys.executable, "-P", "-m", "jobs", *command], cwd=folder, env=environment,
                    capture_output=True, text=True, check=True,
                )  # fmt: skip
            assert f"from {folder}" in done.stdout, done.stdout
    print(f"{wheel.name} and {sdist.name}: {len(names)} files, runs")


if __name__ == "__main__":
    main()
