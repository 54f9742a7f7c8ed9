"""Faults in the middle of a merge on several hosts: same bytes, one promotion, nothing left."""

import os
import signal
import time
from pathlib import Path

import pytest

from tests.hosts.faults import RATE
from tests.hosts.machines import until
from tests.hosts.stage import check_promoted_once
from tests.support.publishing import read_promoted

MOST_AFTER_A_CUT = 60.0
ZOMBIE_SECONDS = 30.0
LEAVE_SECONDS = 3.0
CLUSTER = 40  # exit status


@pytest.mark.slow
@pytest.mark.parametrize("what", ["raylet", "worker"])
def test_a_killed_process(scene, what):
    host = scene.find_receiving()
    scene.disturb(f"{what} killed", lambda: scene.machines.hurt(f"kill-{what}", host))
    scene.check()


@pytest.mark.slow
def test_a_host_that_is_powered_off_in_the_middle_of_a_write(scene):
    host = scene.find_sending()
    scene.disturb("host powered off mid-write", lambda: scene.machines.hurt("kill-host", host))
    scene.check()


@pytest.mark.slow
@pytest.mark.parametrize("when", ["read", "write"])
def test_a_cable_that_is_cut_silently(scene, when):
    host = scene.find_sending() if when == "write" else scene.find_receiving()
    seconds = scene.disturb(f"cable cut mid-{when}", lambda: scene.machines.hurt("cut", host))
    assert seconds < MOST_AFTER_A_CUT
    scene.check()


def test_a_cut_cable_that_is_healed_after_the_run(scene):
    host = scene.find_sending()
    seconds = scene.disturb(
        "cable cut mid-write, healed after the run", lambda: scene.machines.hurt("cut", host)
    )
    assert seconds < MOST_AFTER_A_CUT
    scene.check()
    scene.machines.script("heal", host)
    # Whatever that host still believes that it has to send has gone out by then.
    time.sleep(ZOMBIE_SECONDS)
    check_promoted_once(scene.run)
    assert read_promoted(scene.run.output) == scene.wanted


def test_a_head_that_dies_and_is_restarted(scene):
    run, machines = scene.run, scene.machines

    def restart() -> None:
        machines.hurt("kill-host", "h0")
        machines.mend()
        machines.shape(RATE)
        assert run.wait_end() == CLUSTER, run.log()
        run.start()

    scene.disturb("head killed and restarted, submitted again", restart)
    scene.check()


@pytest.mark.parametrize(
    ("number", "status"),
    [
        pytest.param(signal.SIGTERM, 130, id="SIGTERM", marks=pytest.mark.slow),
        pytest.param(signal.SIGKILL, CLUSTER, id="SIGKILL"),
    ],
)
def test_a_driver_that_is_ended(scene, number, status):
    run = scene.run

    def end() -> None:
        driver = scene.machines.find_driver()
        os.kill(driver, number)
        gone = lambda: not Path(f"/proc/{driver}").exists()  # noqa: E731
        until(gone, LEAVE_SECONDS, "the driver leaves", pause=0.01)
        assert run.wait_end() == status, run.log()
        run.start()

    scene.disturb(f"driver ended by {number.name}, submitted again", end)
    scene.check()


@pytest.mark.slow
def test_a_spot_host_that_is_taken_away(scene):
    host = scene.find_receiving()
    scene.disturb(
        "spot host drained, gone 20 s later", lambda: scene.machines.hurt("spot", host, "20")
    )
    scene.check()


def test_a_storage_server_that_is_killed_and_starts_again(scene):
    scene.disturb("S3 server killed and restarted", scene.machines.restart_storage)
    scene.check()


@pytest.mark.slow
def test_a_host_that_is_throttled_to_a_tenth(scene):
    host = scene.find_receiving()
    scene.disturb("a host at a tenth of its rate", lambda: scene.machines.shape("20mbit", [host]))
    scene.check()
