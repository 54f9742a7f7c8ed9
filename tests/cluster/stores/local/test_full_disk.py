"""A disk that is full before or while a merge writes: exit 22, nothing half, and it goes on."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from cluster.stores.local.files import LocalReader
from cluster.stores.local.store import LOCK_NAME
from jobs.cli.main import main
from tests.support.calling import call
from tests.support.merging import random_tensors, write_checkpoint
from tests.support.small_disk import SmallDisk, small_disk

SHAPES = {"a.weight": (800_000,), "b.weight": (1000, 300)}
SHARD = "model/model.safetensors"
KIB = 1 << 10


@pytest.fixture(scope="module")
def wanted(tmp_path_factory):
    """A merge document, and the bytes that the merge gives on a disk with room."""
    folder = tmp_path_factory.mktemp("wanted")
    for index in range(2):
        write_checkpoint(folder / f"m{index}", random_tensors(index, shapes=SHAPES))
    document = folder / "merge.yaml"
    document.write_text("candidates: [./m0, ./m1]\nweights: {rule: uniform}\nmerge: {}\n")
    with pytest.raises(SystemExit) as left:
        main(["merge", str(document), str(folder / "model"), "--json"])
    assert left.value.code == 0
    return document, (folder / SHARD).read_bytes()


@pytest.fixture
def disk(tmp_path):
    with small_disk(tmp_path) as found:
        yield found


def run_command(document, out):
    command = [sys.executable, "-m", "jobs", "merge", str(document), str(out), "--json"]
    root = Path(__file__).parents[4]
    environment = {**os.environ, "PYTHONPATH": str(root)}
    return subprocess.run(
        command, capture_output=True, text=True, check=False, env=environment, cwd=root
    )


def check_refused(status, out, disk):
    """Exit 22 with its code, and nothing that a reader could take for a model."""
    told = json.loads(out)
    assert (status, told["error"], told["exit_status"]) == (22, "E-FULL", 22)
    assert "free some space" in told["hint"]
    assert not (disk.folder / "model/manifest.json").exists()


def test_a_disk_without_room_for_the_shard_stops_the_command_before_a_byte(capsys, disk, wanted):
    document, right = wanted
    disk.leave(len(right) // 2)
    done = run_command(document, disk.folder / "model")
    check_refused(done.returncode, done.stdout, disk)
    assert not (disk.folder / SHARD).exists()
    disk.clear()
    assert call(capsys, "merge", document, disk.folder / "model", "--json")[0] == 0
    assert (disk.folder / SHARD).read_bytes() == right


ROOM = [0, 4 * KIB, 8 * KIB, 64 * KIB, -4 * KIB, -8 * KIB, *range(12 * KIB, 64 * KIB, 8 * KIB)]


def test_whatever_write_is_the_one_too_many_the_same_command_goes_on(capsys, disk, wanted):
    document, right = wanted
    statuses = []
    for number, more in enumerate([-len(right), *ROOM]):
        out = disk.folder / f"out-{number}" / "model"
        disk.leave(len(right) + more)
        status, told, _ = call(capsys, "merge", document, out, "--json")
        statuses.append(status)
        if status != 0:
            assert json.loads(told)["error"] == "E-FULL"
            assert not (out / "manifest.json").exists()
        disk.clear()
        status, *_ = call(capsys, "merge", document, out, "--json")
        assert status == 0
        assert (out / "model.safetensors").read_bytes() == right
        assert sorted(path.name for path in out.iterdir()) == [
            "README.md", "config.json", "manifest.json", "model.safetensors",
        ]  # fmt: skip
        assert {path.name for path in out.parent.iterdir()} == {"model", LOCK_NAME}
        for path in [*out.iterdir()]:
            path.unlink()
    assert set(statuses) <= {0, 22}
    assert statuses.count(22) >= (4 if isinstance(disk, SmallDisk) else 1)


def test_a_disk_that_others_fill_while_units_are_written_is_no_torn_model(
    capsys, disk, wanted, monkeypatch
):
    document, right = wanted
    out = disk.folder / "model"
    # As on systems that cannot preallocate: the space is only there when it is written.
    monkeypatch.delattr(os, "posix_fallocate")
    real, count = LocalReader.read_into, iter(range(10**6))
    disk.leave(len(right) + 256 * KIB)

    def read_into(reader, buffer, /, *, start):
        if next(count) == 2:
            squeeze(disk)
        real(reader, buffer, start=start)

    monkeypatch.setattr(LocalReader, "read_into", read_into)
    status, told, _ = call(capsys, "merge", document, out, "--json")
    check_refused(status, told, disk)
    assert not (disk.folder / SHARD).exists()
    monkeypatch.setattr(LocalReader, "read_into", real)
    disk.clear()
    (disk.folder / "squeeze").unlink(missing_ok=True)
    assert call(capsys, "merge", document, out, "--json")[0] == 0
    assert (disk.folder / SHARD).read_bytes() == right


def squeeze(disk):
    """Another process takes all there is but a megabyte."""
    if not isinstance(disk, SmallDisk):
        disk.leave(1 << 20)
        return
    facts = os.statvfs(disk.folder)
    size = facts.f_bavail * facts.f_frsize - (1 << 20)
    (disk.folder / "squeeze").write_bytes(bytes(size))
