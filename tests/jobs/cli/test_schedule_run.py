"""`metafuse schedule run` as a process: a night, an interrupt, what the next call makes of it."""

import json
import signal
import subprocess
import sys
from datetime import UTC, datetime, timedelta

import pytest

from tests.support.waiting import LONG

pytestmark = [pytest.mark.ray, pytest.mark.xdist_group("ray")]


def write_schedule(project, now):
    """A daily line that was due three minutes ago."""
    tick = now - timedelta(minutes=3)
    recipe = project / "recipe.yaml"
    line = f'schedule: {{cron: "{tick.minute} {tick.hour} * * *", zone: Etc/UTC, catch_up: 6h}}\n'
    recipe.write_text(recipe.read_text() + line + "gate: {alpha: 0.05}\n")
    return recipe, tick.date().isoformat()


def start(recipe, *words):
    return subprocess.Popen(
        [sys.executable, "-m", "jobs", "schedule", "run", str(recipe), "--once", *words],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip


def decisions(text):
    return [(line["decision"], line["date"]) for line in map(json.loads, text.splitlines())]


@pytest.mark.long
def test_a_night_is_stopped_continued_and_done_once(project):
    recipe, date = write_schedule(project, datetime.now(UTC))
    first = start(recipe)
    line = json.loads(first.stdout.readline())
    assert (line["decision"], line["run"]) == ("start", f"nightly-{date}")
    first.send_signal(signal.SIGTERM)
    out, err = first.communicate(timeout=LONG)
    assert first.returncode == 130, err
    assert decisions(out) == [("stopped", date)]

    second = start(recipe)
    out, err = second.communicate(timeout=LONG)
    assert second.returncode == 0, err
    assert decisions(out) == [("start", date), ("done", date)]
    pointer = json.loads((project / "merged/latest.json").read_text())
    assert pointer["run"] == f"nightly-{date}"

    third = start(recipe)
    out, err = third.communicate(timeout=LONG)
    assert (third.returncode, out) == (0, ""), err
