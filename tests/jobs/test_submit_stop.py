"""A driver that is told to leave: Ray kills it 3 s after SIGTERM, so it must be gone by then."""

import json
import os
import signal
import subprocess
import sys
import time
from copy import deepcopy

import pytest
import torch

from cluster.store import open_store
from cluster.submit import connect, read_log, wait_for_job
from jobs.models.lstm import LSTMClassifier, save_lstm
from jobs.submit import load_submission, submit
from tests.servers.fault_proxy import FaultProxy
from tests.support.ray_head import metafuse, ray_head, wait_until
from tests.support.tiny_lstm import LABELS, RECIPE, train_base, write_data, write_project

pytestmark = [pytest.mark.ray, pytest.mark.slow, pytest.mark.xdist_group("ray")]
DATE = "2026-11-24"
ROWS = 2_000_000


@pytest.fixture(scope="module")
def head(tmp_path_factory):
    with ray_head(tmp_path_factory.mktemp("head")) as running:
        yield running


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


@pytest.mark.parametrize("has_begun", [has_begun_to_evaluate, has_begun_to_merge])
def test_a_driver_that_is_stopped_leaves_in_time_and_gives_back_its_lease(
    large, head, tmp_path, monkeypatch, has_begun
):
    for name, value in head.environment.items():
        monkeypatch.setenv(name, value)
    text = RECIPE.replace("candidates/*", f"{large}/candidates/*")
    text = text.replace("data/eval.parquet", f"{large}/data/eval.parquet")
    text = text.replace("name: nightly", f"name: stop-{has_begun.__name__[-8:].replace('_', '-')}")
    text = text.replace("output: merged", f"output: {tmp_path}/merged")
    recipe = tmp_path / "recipe.yaml"
    recipe.write_text(text + "resources: {evaluate: {workers: 1}, merge: {workers: 1}}\n")
    api = connect(head.address)
    job_id = submit(api, load_submission(recipe, DATE)).id
    merged = tmp_path / "merged"
    wait_until(lambda: has_begun(read_log(api, job_id), merged), 120)
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
            if line.startswith("evaluate on rank"):
                break
        proxy.add("stall", wait=30.0)
        started = time.monotonic()
        driver.send_signal(signal.SIGTERM)
        said = driver.stderr.read()
        assert driver.wait(10) == 130
        assert time.monotonic() - started < 3.0
    driver.stderr.close()
    assert "stopped at once: something did not answer" in said
    use(moto)
    assert not json.loads(open_store("s3://plain/leaving").read("lease.json"))["released"]
