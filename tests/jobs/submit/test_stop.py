"""A driver that is told to leave: Ray kills it 3 s after SIGTERM, so it must be gone by then."""

import json
import os
import signal
import subprocess
import sys
from copy import deepcopy

import pytest
import torch

from cluster.ray.jobs_api import connect, read_log, wait_for_job
from cluster.stores.open_store import open_store
from jobs.cli.signals import LEAVE_SECONDS
from jobs.models.lstm import LSTMClassifier, save_lstm
from jobs.submit.submit import load_submission, submit
from tests.servers.fault_proxy import FaultProxy
from tests.support.ray_head import end, free_ports, metafuse, ray_head, start_metafuse
from tests.support.tiny_lstm import LABELS, RECIPE, train_base, write_data, write_project
from tests.support.waiting import LONG, wait_until

pytestmark = [pytest.mark.ray, pytest.mark.slow, pytest.mark.xdist_group("ray")]
DATE = "2026-11-24"
ROWS = 2_000_000
RAY_WAITS_SECONDS = 3.0


@pytest.fixture(scope="module")
def large(tmp_path_factory):
    """Candidates that are good and large: most rows of their embedding stand for no word."""
    folder = tmp_path_factory.mktemp("large")
    base, vocabulary = train_base()
    for number, name in enumerate("abcd"):
        network = LSTMClassifier(vocab_size=ROWS, embedding_size=8, hidden_size=8, num_labels=2)
        state = deepcopy(base.state_dict())
        key = next(k for k, v in state.items() if v.shape == (64, 8))
        rows = torch.full((ROWS, 8), 0.01 * number)
        rows[:64] = state[key] + 0.05 * number
        state[key] = rows
        network.load_state_dict(state)
        save_lstm(folder / "candidates" / name, network, vocabulary, LABELS)
    write_data(folder / "data" / "eval.parquet", 3000)
    return folder


def has_begun_to_merge(log, merged):
    return any("ledger-" in str(path) for path in merged.rglob("*"))


def has_begun_to_evaluate(log, merged):
    return "evaluate on rank  1/4" in log


@pytest.fixture(scope="module")
def project_of(large):
    """Makes a recipe with absolute places over the large candidates; gives it and its output."""

    def make(folder, name):
        text = RECIPE.replace("candidates/*", f"{large}/candidates/*")
        text = text.replace("data/eval.parquet", f"{large}/data/eval.parquet")
        text = text.replace("name: nightly", f"name: {name}")
        text = text.replace("output: merged", f"output: {folder}/merged")
        recipe = folder / "recipe.yaml"
        limits = "resources: {evaluate: {workers: 1}, merge: {workers: 1}}\n"
        recipe.write_text(text + limits)
        return recipe, folder / "merged"

    return make


@pytest.mark.parametrize("has_begun", [has_begun_to_evaluate, has_begun_to_merge])
def test_a_driver_that_is_stopped_leaves_in_time_and_gives_back_its_lease(
    project_of, head, tmp_path, monkeypatch, has_begun
):
    for name, value in head.environment.items():
        monkeypatch.setenv(name, value)
    recipe, merged = project_of(tmp_path, has_begun.__name__.replace("_", "-"))
    api = connect(head.address)
    job_id = submit(api, load_submission(recipe, DATE)).id
    wait_until(lambda: has_begun(read_log(api, job_id), merged))
    done = metafuse("stop", job_id, "--address", head.address, env=head.environment)
    assert (done.returncode, done.stdout) == (0, f"{job_id}  STOPPED\n")
    log = []
    job = wait_for_job(api, job_id, on_line=log.append)
    assert job.status == "STOPPED"
    assert "E-INTERRUPTED  stopped; what was done is kept" in log  # not killed
    assert json.loads((merged / "lease.json").read_bytes())["released"] is True
    assert not list(merged.glob("runs/*/outcome.json"))


@pytest.mark.s3
def test_a_storage_that_hangs_does_not_keep_the_driver(tmp_path, moto, use):
    with FaultProxy(moto["AWS_ENDPOINT_URL_S3"]) as proxy:
        use({**moto, "AWS_ENDPOINT_URL_S3": proxy.url})
        recipe = write_project(
            tmp_path, RECIPE.replace("output: merged", "output: s3://plain/leaving")
        )
        driver = subprocess.Popen(
            [sys.executable, "-m", "jobs", "run", recipe, "--date", DATE],
            stderr=subprocess.PIPE, text=True, env=dict(os.environ),
        )  # fmt: skip
        for line in driver.stderr:
            if line.startswith("evaluate on rank  1/4"):  # nothing is being imported any more
                break
        proxy.add("stall", wait=LONG)
        driver.send_signal(signal.SIGTERM)
        said = driver.stderr.read()
        assert driver.wait(LONG / 2) == 130  # long before the storage answers
    driver.stderr.close()
    assert LEAVE_SECONDS < RAY_WAITS_SECONDS
    assert "stopped at once: something did not answer" in said
    assert "hint     the same command continues" in said
    use(moto)
    assert not json.loads(open_store("s3://plain/leaving").read("lease.json"))["released"]


def test_after_a_restart_of_the_head_the_same_submission_goes_on(project_of, tmp_path):
    """The waiting one is told that the head forgot the job; storage knows what was done."""
    ports = free_ports(3)
    recipe, merged = project_of(tmp_path, "forgotten")
    arguments = ("submit", recipe, "--date", DATE)
    with ray_head(tmp_path, ports=ports) as head:
        arguments = (*arguments, "--address", head.address)
        waiting = start_metafuse(*arguments, env=head.environment)
        wait_until(lambda: list(merged.glob("scores/*.parquet")))
        end(head.process, signal.SIGKILL)
    with ray_head(tmp_path, ports=ports) as head:
        _, said = waiting.communicate(timeout=LONG)
        assert waiting.returncode == 40
        assert "its head was restarted" in said
        assert "the same metafuse submit" in said.splitlines()[-1]
        done = metafuse(*arguments, env=head.environment)
        assert done.returncode == 4, done.stderr
        assert done.stdout == f"forgotten-{DATE}-s1  FAILED  exit status 4: held\n"
        runs = [path.name for path in (merged / "runs").iterdir()]
        assert runs == [f"forgotten-{DATE}"]
        report = (merged / "runs" / runs[0] / "report.md").read_text()
        assert "the run was interrupted and taken up again" in report
