"""What is seen of a real run from outside: its log lines, those of its workers, and status."""

import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from tests.support.waiting import LONG

pytestmark = [pytest.mark.ray, pytest.mark.xdist_group("ray"), pytest.mark.slow]


@pytest.fixture
def ray_folder():
    # Ray's sockets are below it: their paths may be about 100 characters long.
    with tempfile.TemporaryDirectory(dir="/tmp", prefix="seen-") as folder:
        yield Path(folder)


def command(*words, **environment):
    return subprocess.Popen(
        [sys.executable, "-m", "jobs", *map(str, words)], text=True,
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, env={**os.environ, **environment},
    )  # fmt: skip


def lines_of(text):
    return [json.loads(line) for line in text.splitlines()]


def units_of(lines, event):
    return {line["unit"] for line in lines if line["event"] == event}


def test_the_lines_of_a_run_are_in_its_stderr_and_in_the_logs_of_rays_workers(project, ray_folder):
    recipe = project / "recipe.yaml"
    driver = command("run", recipe, METAFUSE_LOG="json", RAY_TMPDIR=str(ray_folder))
    _, err = driver.communicate(timeout=LONG)
    said = lines_of(err)
    (ended,) = (line for line in said if line["event"] == "run ended")
    assert ended["exit_status"] == driver.returncode
    written = [
        json.loads(line)
        for path in ray_folder.glob("ray/session_2*/logs/worker-*.err")
        for line in path.read_text().splitlines()
        if line.startswith("{")
    ]
    assert {line["run"] for line in written} == {ended["run"]}
    # A small merge is the driver's own work.
    assert units_of(said, "unit written") == units_of(said, "unit done") != set()
    assert units_of(written, "evaluation written") == units_of(said, "evaluation done") != set()
    assert {line["process"] for line in written}.isdisjoint({ended["process"]})


def test_a_run_is_followed_from_another_process_until_it_ends(project):
    with command("run", project / "recipe.yaml") as driver:
        for line in driver.stderr:
            if "evaluate on rank" in line:  # Ray is still to be started
                break
        follower = command("status", project / "merged", "--follow", "--json")
        out, err = follower.communicate(timeout=LONG)
        driver.communicate(timeout=LONG)
    assert driver.returncode in (0, 4, 5)
    found = json.loads(out)
    assert found["run"]["outcome"]["exit_status"] == driver.returncode
    assert all(line.startswith(found["run"]["run"]) for line in err.splitlines())
    assert err.splitlines()
