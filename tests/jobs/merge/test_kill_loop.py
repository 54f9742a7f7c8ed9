"""Driver, workers and raylet are killed sixty times, at any time: the bytes stay the same."""

import hashlib
import random
import subprocess
import sys
import time
from contextlib import suppress

import psutil
import pytest

from cluster.stores.open_store import open_store
from tests.support.huge import upload_file, write_huge
from tests.support.killing import ROOT
from tests.support.waiting import LONG, wait_until

MIB = 1 << 20
MODEL_BYTES = 1_000_000_000
SOURCES = 2
KILLS = 60
# The whole driver of a merge on an embedded Ray; says when it begins to compute.
DRIVER = """
import sys
from contextlib import closing
from cluster.ray.runner import RayRunner
from cluster.stores.open_store import open_store
from cluster.workers.hands import Hands
from fusion.evidence.weights import uniform_weights
from fusion.plans.wish import MergeWish
from jobs.candidates.find import find_candidates
from jobs.merge.fuse import Manner, Target, fuse, plan_wish

sources, output = sys.argv[1:]
found = find_candidates([sources], settle_seconds=0, now=0).candidates
plan = plan_wish(found, uniform_weights(len(found)), MergeWish())
with closing(RayRunner(None)) as runner:
    target = Target(open_store(output), "model", "ledger", "m", "m")
    fuse(plan, target, hands=Hands(runner, 2), manner=Manner(1 << 30),
         tell=lambda done, total, _: print(done, total, flush=True))
"""


@pytest.mark.s3
@pytest.mark.ray
@pytest.mark.slow
@pytest.mark.xdist_group("ray")
def test_sixty_kills_leave_the_bytes_of_a_quiet_merge(tmp_path, seaweedfs, use, record_property):
    use(seaweedfs)
    place = "s3://plain/kills"
    for index in range(SOURCES):
        write_huge(tmp_path / f"m{index}", index, MODEL_BYTES)
        upload_file(open_store(f"{place}/in"), f"m{index}/model.safetensors",
                    tmp_path / f"m{index}" / "model.safetensors")  # fmt: skip
        open_store(f"{place}/in").put(f"m{index}/config.json", b'{"model_type": "test"}')
    dice = random.Random(7)
    kills = dict.fromkeys(("driver", "worker", "raylet"), 0)
    digests = {finish(place, f"{place}/quiet")}
    rounds = 0
    while sum(kills.values()) < KILLS:
        rounds += 1
        output = f"{place}/out-{rounds}"
        while sum(kills.values()) < KILLS:
            whom = min(kills, key=kills.__getitem__)
            if not kill_once(place, output, whom, dice.uniform(0.0, 2.0)):
                break
            kills[whom] += 1
        digests.add(finish(place, output))
        assert not list(open_store(output).list_uploads())
        open_store(output).delete("model/model.safetensors")
    record_property("kills", str(kills))
    record_property("merges", rounds)
    assert len(digests) == 1
    assert set(kills.values()) == {KILLS // 3}


def start(place, output):
    command = [sys.executable, "-c", DRIVER, f"{place}/in/*", output]
    return subprocess.Popen(
        command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )


def kill_once(place, output, whom, seconds):
    """Start a driver and kill one of its processes; False where it had ended before."""
    driver, family = start(place, output), []
    try:
        driver.stdout.readline()
        victim = wait_until(lambda: driver.poll() is not None or find(driver, whom))
        time.sleep(seconds)
        if driver.poll() is not None:
            assert driver.returncode == 0, driver.stdout.read()
            return False
        family = psutil.Process(driver.pid).children(recursive=True)
        victim.kill()
        if whom != "driver":  # it goes on with another worker, or ends with an error
            driver.wait(LONG)
        return True
    finally:
        clear(driver, family)


def find(driver, whom):
    """One process of an embedded Ray; None where there is none yet."""
    process = psutil.Process(driver.pid)
    if whom == "driver":
        return process
    for child in process.children(recursive=True):
        name = " ".join(child.cmdline()[:1]) if child.is_running() else ""
        if (whom == "raylet" and name.endswith("/raylet")) or (
            whom == "worker" and name.startswith("ray::")
        ):
            return child
    return None


def clear(driver, family):
    """End the driver and what is left of its Ray."""
    if driver.poll() is None:
        family = [*family, *psutil.Process(driver.pid).children(recursive=True), driver]
    for process in family:
        with suppress(psutil.NoSuchProcess):
            process.kill()
    driver.wait(LONG)
    driver.stdout.close()


def finish(place, output):
    """Merge to the end without a kill; the digest of the model's bytes."""
    driver = start(place, output)
    out, _ = driver.communicate(timeout=LONG)
    assert driver.returncode == 0, out
    store = open_store(output)
    digest = hashlib.sha256()
    size = store.head("model/model.safetensors").size
    for first in range(0, size, 64 * MIB):
        block = bytearray(min(64 * MIB, size - first))
        store.read_into("model/model.safetensors", memoryview(block), start=first)
        digest.update(block)
    return digest.hexdigest()
