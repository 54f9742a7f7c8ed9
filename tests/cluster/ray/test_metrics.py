"""Counters as Prometheus finds them, at the metrics port of a Ray node."""

import urllib.request
from dataclasses import dataclass

import pytest
import ray

from cluster.ray.runner import RayRunner
from cluster.workers.runner import Resources
from tests.support.waiting import LONG, wait_until

pytestmark = [pytest.mark.ray, pytest.mark.xdist_group("ray")]


@dataclass
class Unit:
    counts: dict


def scrape():
    """Values by name. Ray reports every few seconds, and not all of them at once."""
    node = ray.nodes()[0]
    address = f"http://{node['NodeManagerAddress']}:{node['MetricsExportPort']}/metrics"
    with urllib.request.urlopen(address, timeout=LONG) as answer:
        text = answer.read().decode()
    return {
        line.partition("{")[0]: float(line.rpartition(" ")[2])
        for line in text.splitlines()
        if line.startswith("ray_metafuse_")
    }


@pytest.mark.long
def test_what_runs_is_counted_at_the_metrics_port(tmp_path, monkeypatch):
    monkeypatch.setenv("RAY_metrics_report_interval_ms", "1000")

    def work(item):
        marker = tmp_path / "died"
        if item == 0 and not marker.exists():
            import os
            import signal

            marker.touch()
            os.kill(os.getpid(), signal.SIGKILL)
        if item == 3:
            raise ValueError("no")
        return Unit({"units": 1, "read_bytes": 100, "written_bytes": 10, "unknown": 1})

    def score(item):
        return Unit({"evaluations": 1})

    runner = RayRunner()
    try:
        list(runner.run_pool(lambda: work, range(4), resources=Resources(), workers=2))
        list(runner.run_tasks(score, [1, 2], resources=Resources(), workers=2))
        counts = {"units": 3, "read_bytes": 300, "written_bytes": 30, "evaluations": 2,
                  "retries": 1, "failures": 1, "lost_workers": 1}  # fmt: skip
        wait_until(lambda: scrape() == {f"ray_metafuse_{n}_total": v for n, v in counts.items()})
    finally:
        runner.close()
