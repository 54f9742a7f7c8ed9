import json
import os
import signal
import threading
from dataclasses import replace
from pathlib import Path

import pytest

from cluster.errors import ClusterAwayError, RunnerError
from cluster.ray.jobs_api import connect, find_job, list_jobs, stop_job, submit_job, wait_for_job
from cluster.workers.patience import Patience
from jobs.errors import LockedError
from jobs.submit.submit import exit_status, load_submission, submit
from tests.servers.fault_proxy import FaultProxy
from tests.support.ray_head import metafuse, start_metafuse
from tests.support.tiny_lstm import RECIPE, write_project
from tests.support.waiting import LONG, end_of, wait_until

pytestmark = [pytest.mark.ray, pytest.mark.long, pytest.mark.xdist_group("ray")]
DATE = "2026-11-24"
QUICK = Patience(job_poll=0.2)


@pytest.fixture(scope="module")
def project(tmp_path_factory):
    folder = tmp_path_factory.mktemp("project")
    write_project(folder)
    return folder


@pytest.fixture
def token(head, monkeypatch):
    for name in [name for name in os.environ if name.startswith("RAY_")]:
        monkeypatch.delenv(name)
    for name, value in head.environment.items():
        monkeypatch.setenv(name, value)


@pytest.fixture
def api(head, token):
    return connect(head.address)


def write_recipe(project: Path, folder: Path, name: str, more: str = "") -> Path:
    """A recipe with absolute places; every test has an output and a name of its own."""
    text = RECIPE.replace("name: nightly", f"name: {name}")
    text = text.replace("candidates/*", f"{project}/candidates/*")
    text = text.replace("data/eval.parquet", f"{project}/data/eval.parquet")
    path = folder / "recipe.yaml"
    path.write_text(text.replace("output: merged", f"output: {folder}/merged") + more)
    return path


def submission(path: Path):
    return load_submission(path, DATE)


def test_a_submitted_run_is_promoted_and_says_so(project, head, tmp_path):
    recipe = write_recipe(project, tmp_path, "whole", "gate: {alpha: 0.05}\n")
    arguments = ("submit", recipe, "--address", head.address, "--date", DATE)
    done = metafuse(*arguments, env=head.environment)
    assert done.returncode == 0, done.stderr
    assert done.stdout == f"whole-{DATE}-s1  SUCCEEDED  exit status 0: done or promoted\n"
    lines = done.stderr.splitlines()
    assert f"whole-{DATE}-s1  submitted to {head.address}" in lines
    assert any(line.startswith("PROMOTE ") for line in lines)
    assert json.loads((tmp_path / "merged" / "latest.json").read_bytes())["run"] == f"whole-{DATE}"
    again = metafuse(*arguments, "--json", env=head.environment)
    assert again.returncode == 3
    said = json.loads(again.stdout)
    assert said["submission_id"] == f"whole-{DATE}-s2"
    assert said["driver_exit_code"] == said["exit_status"] == 3


def test_no_token_or_a_wrong_one_submits_nothing(project, head, api, tmp_path):
    recipe = write_recipe(project, tmp_path, "locked-out")
    before = len(list_jobs(api))
    arguments = ("submit", recipe, "--address", head.address, "--date", DATE)
    without = metafuse(*arguments, home=tmp_path)
    assert without.returncode == 40
    assert "wants a token and none was found; nothing was done" in without.stderr
    wrong = metafuse(*arguments, home=tmp_path, env={"RAY_AUTH_TOKEN": "f" * 64})
    assert wrong.returncode == 40
    assert "refuses the token from RAY_AUTH_TOKEN (403)" in wrong.stderr
    assert "RAY_AUTH_TOKEN_PATH" in wrong.stderr.splitlines()[-1]
    assert "f" * 64 not in wrong.stderr + wrong.stdout
    assert len(list_jobs(api)) == before


def test_two_at_once_are_one_job(project, head, token, tmp_path):
    wanted = submission(write_recipe(project, tmp_path, "twice"))
    found = []

    def call():
        found.append(submit(connect(head.address), wanted))

    threads = [threading.Thread(target=call) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert {one.id for one in found} == {f"twice-{DATE}-s1"}
    assert sum(one.is_new for one in found) == 1
    stop_job(connect(head.address), f"twice-{DATE}-s1")


@pytest.mark.slow
def test_a_stopped_job_is_130_and_the_next_submission_is_the_next(project, api, tmp_path):
    path = write_recipe(project, tmp_path, "stopped")
    first = submit(api, submission(path))
    assert first.id == f"stopped-{DATE}-s1"
    assert submit(api, submission(path)) == type(first)(first.id, is_new=False)
    stop_job(api, first.id)
    job = wait_for_job(api, first.id, on_line=lambda _: None)
    assert (job.status, exit_status(job)) == ("STOPPED", 130)
    second = submit(api, submission(path))
    assert (second.id, second.is_new) == (f"stopped-{DATE}-s2", True)
    stop_job(api, second.id)


@pytest.mark.slow
def test_another_recipe_of_the_same_name_is_not_joined(project, api, tmp_path):
    first = submit(api, submission(write_recipe(project, tmp_path, "same")))
    other = write_recipe(project, tmp_path, "same", "gate: {alpha: 0.01}\n")
    with pytest.raises(LockedError, match="another recipe named same"):
        submit(api, submission(other))
    stop_job(api, first.id)


@pytest.mark.slow
def test_ctrl_c_ends_the_waiting_and_not_the_job(project, head, api, tmp_path):
    recipe = write_recipe(project, tmp_path, "left", "gate: {alpha: 0.05}\n")
    arguments = ("submit", recipe, "--address", head.address, "--date", DATE)
    waiting = start_metafuse(*arguments, env=head.environment)
    wait_until(lambda: (job := find_job(api, f"left-{DATE}-s1")) and job.status == "RUNNING")
    other = start_metafuse(*arguments, env=head.environment)
    while f"left-{DATE}-s1  is there already" not in other.stderr.readline():
        assert other.poll() is None
    waiting.send_signal(signal.SIGINT)
    _, said = waiting.communicate(timeout=LONG)
    assert waiting.returncode == 130
    assert f"left-{DATE}-s1 goes on at {head.address}" in said
    assert f"metafuse submit {recipe} --date {DATE} --address {head.address} waits" in said
    _, said = other.communicate(timeout=LONG)
    assert other.returncode == 0
    assert "PROMOTE " in said


@pytest.mark.slow
def test_a_cluster_that_is_away_for_a_moment_is_waited_for_and_no_line_is_lost(
    head, token, tmp_path
):
    seen = tmp_path / "all faults were met"
    with FaultProxy(head.address) as proxy:
        api = connect(proxy.url)
        command = "for i in 1 2 3 4 5 6 7 8; do echo line $i; sleep 0.2; done; "
        command += f"while [ ! -e '{seen}' ]; do sleep 0.2; done; exit 7"
        assert submit_job(api, "lines", entrypoint=command, runtime_env={}, metadata={})
        assert not submit_job(api, "lines", entrypoint=command, runtime_env={}, metadata={})
        proxy.add("truncate", path="/logs", times=2)
        proxy.add("reset", path="/api/jobs/lines$", after=2, times=2)
        proxy.add("error", path="/api/jobs/lines$", after=4, times=2)
        lines = []
        watch = threading.Thread(
            target=lambda: wait_until(lambda: len(proxy.log) == 6) and seen.touch()
        )
        watch.start()
        job = wait_for_job(api, "lines", on_line=lines.append, patience=QUICK)
        end_of(watch)
    assert (job.status, job.exit_code, exit_status(job)) == ("FAILED", 7, 7)
    # Ray writes a line of its own in between.
    assert [line for line in lines if line.startswith("line")] == [f"line {i}" for i in range(1, 9)]


@pytest.mark.slow
def test_a_cluster_that_stays_away_ends_the_waiting(head, token):
    with FaultProxy(head.address) as proxy:
        api = connect(proxy.url)
        submit_job(api, "gone", entrypoint="sleep 30", runtime_env={}, metadata={})
        proxy.add("error", path="/api/jobs/gone$")
        with pytest.raises(ClusterAwayError, match="gone may still be running"):
            wait_for_job(
                api, "gone", on_line=lambda _: None, patience=replace(QUICK, job_outage=1.0)
            )
    stop_job(connect(head.address), "gone")


@pytest.mark.slow
def test_logs_are_followed_to_the_end_and_end_with_the_status_of_the_job(head, api):
    command = "for i in 1 2 3; do echo line $i; sleep 0.5; done; exit 13"
    submit_job(api, "followed", entrypoint=command, runtime_env={}, metadata={})
    arguments = ("logs", "--follow", "followed", "--address", head.address)
    done = metafuse(*arguments, env=head.environment)
    assert done.returncode == 13
    lines = done.stdout.splitlines()
    # Ray's own first line may come after the job's.
    own = [line for line in lines if not line.startswith("Running entrypoint for job")]
    assert own[-3:] == ["line 1", "line 2", "line 3"]
    assert [lines.count(line) for line in own[-3:]] == [1, 1, 1]


@pytest.mark.slow
def test_a_driver_that_is_killed_is_the_fault_of_the_cluster(api):
    submit_job(api, "shot", entrypoint="kill -9 $$", runtime_env={}, metadata={})
    job = wait_for_job(api, "shot", on_line=lambda _: None)
    with pytest.raises(RunnerError, match="its driver was killed"):
        exit_status(job)


@pytest.mark.slow
def test_an_image_without_metafuse_is_named(api):
    command = "exec no-such-metafuse run"
    submit_job(api, "bare", entrypoint=command, runtime_env={}, metadata={})
    with pytest.raises(RunnerError, match="could not be started") as caught:
        exit_status(wait_for_job(api, "bare", on_line=lambda _: None))
    assert "--image" in caught.value.hint
