"""The real thing: processes, Ray, a kill in the middle, two drivers at once."""

import json
import os
import signal
import subprocess
import sys
import time

import pytest

from cluster.ray.runner import RayRunner
from cluster.stores.open_store import open_store
from jobs.outputs.lease import held_lease
from tests.support.merging import merge, write_sources
from tests.support.waiting import LONG, wait_until

pytestmark = [pytest.mark.ray, pytest.mark.xdist_group("ray")]


def start(project, *arguments):
    command = [sys.executable, "-m", "jobs", "run", str(project / "recipe.yaml"), *arguments]
    return subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True
    )


def wait_for(process, words):
    said = []
    for line in process.stderr:
        said.append(line)
        if words in line:
            return
    pytest.fail(f"ended without saying {words!r}, but {''.join(said)}")


def test_a_merge_on_ray_gives_the_bytes_of_a_merge_in_this_process(tmp_path):
    sources = write_sources(tmp_path, 3)
    merge(sources, [0.2, 0.3, 0.5], tmp_path / "here", unit_bytes=8192)
    runner = RayRunner()
    try:
        for workers in (1, 2):
            out = tmp_path / f"ray-{workers}"
            merge(sources, [0.2, 0.3, 0.5], out, unit_bytes=8192, runner=runner, workers=workers)
            assert (out / "model" / "model.safetensors").read_bytes() == (
                tmp_path / "here" / "model" / "model.safetensors"
            ).read_bytes()
    finally:
        runner.close()


def test_a_second_driver_is_told(project):
    with held_lease(open_store(str(project / "merged")), "tiny-2026-01-01"):
        second = start(project, "--json")
        out, err = second.communicate(timeout=LONG)
    assert second.returncode == 30, err
    assert json.loads(out)["error"] == "E-LOCKED"


@pytest.mark.long
def test_data_that_changes_in_the_middle_of_evaluations_ends_the_run_and_its_ray(project):
    process = start(project)
    wait_for(process, "starting Ray  0/1")
    data = project / "data" / "eval.parquet"
    data.write_bytes(data.read_bytes() + b" ")
    _, err = process.communicate(timeout=LONG)
    assert process.returncode == 20, err
    assert "E-SOURCE-CHANGED" in err
    wait_until(lambda: not group_of(process.pid), seconds=10.0)


def group_of(leader):
    """The processes that a process and those that it started left behind in their group."""
    found = subprocess.run(["pgrep", "-g", str(leader)], capture_output=True, text=True)
    return found.stdout.split()


@pytest.mark.long
def test_a_killed_run_goes_on(project):
    first = start(project)
    wait_for(first, "evaluate on rank  1/4")
    os.killpg(first.pid, signal.SIGKILL)
    first.communicate()
    third = start(project, "--json")
    out, err = third.communicate(timeout=LONG)
    assert third.returncode == 0, err
    assert json.loads(out)["result"] == "promoted"
    runs = [path.name for path in (project / "merged" / "runs").iterdir()]
    assert runs == [json.loads(out)["run"]]


@pytest.mark.long
def test_a_terminated_run_says_that_it_can_be_continued(project):
    process = start(project)
    wait_for(process, "evaluate on rank  1/4")
    process.send_signal(signal.SIGTERM)
    _, err = process.communicate(timeout=LONG)
    assert process.returncode == 130
    assert "the same command continues" in err
    assert "Traceback" not in err


@pytest.mark.parametrize("seconds", [0.0, 0.8])
def test_a_run_terminated_while_ray_starts_says_so_too(project, seconds):
    process = start(project)
    wait_for(process, "starting Ray  0/1")
    time.sleep(seconds)
    process.send_signal(signal.SIGTERM)
    _, err = process.communicate(timeout=LONG)
    assert process.returncode == 130
    assert "E-INTERRUPTED  stopped" in err
    assert "the same command continues" in err
