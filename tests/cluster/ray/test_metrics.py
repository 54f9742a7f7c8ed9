"""Counters as Prometheus finds them, at the metrics port of a Ray node."""

import time
import urllib.request
from dataclasses import dataclass

import pytest
import ray

from cluster.ray.runner import RayRunner
from cluster.workers.runner import Resources

pytestmark = [pytest.mark.ray, pytest.mark.xdist_group("ray")]


@dataclass
class Unit:
    counts: dict


def scrape(names, seconds=40):
    """Values by name, as soon as all of them are there; Ray reports every 10 s."""
    node = ray.nodes()[0]
    address = f"http://{node['NodeManagerAddress']}:{node['MetricsExportPort']}/metrics"
    until = time.monotonic() + seconds
    found = {}
    while names - set(found) and time.monotonic() < until:
        time.sleep(0.5)
        with urllib.request.urlopen(address, timeout=5) as answer:
            text = answer.read().decode()
        found = {
            line.partition("{")[0]: float(line.rpartition(" ")[2])
            for line in text.splitlines()
            if line.startswith("ray_metafuse_")
        }
    return found


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
        names = ("units", "read_bytes", "written_bytes", "evaluations", "retries", "failures",
                 "lost_workers")  # fmt: skip
        found = scrape({f"ray_metafuse_{name}_total" for name in names})
    finally:
        runner.close()
    assert [found.get(f"ray_metafuse_{name}_total") for name in names] == [
        3, 300, 30, 2, 1, 1, 1,
    ]  # fmt: skip
