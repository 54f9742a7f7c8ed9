import os
import shutil
from pathlib import Path

import pytest

from cluster.errors import RunnerError
from cluster.ray import places
from cluster.ray.address import Token, find_token
from cluster.ray.places import find_ray_folder, make_token


def test_ray_keeps_its_files_where_the_environment_says(tmp_path, monkeypatch):
    short = Path("/dev/shm/mf-places")
    short.mkdir(exist_ok=True)
    try:
        assert find_ray_folder({"RAY_TMPDIR": str(short), "TMPDIR": "/x"}) == f"{short}/ray"
        assert find_ray_folder({"TMPDIR": str(short)}) == f"{short}/ray"
    finally:
        shutil.rmtree(short)


@pytest.mark.parametrize("name", ["RAY_TMPDIR", "TMPDIR"])
def test_a_folder_too_long_for_sockets_or_not_there_is_not_used(name, tmp_path):
    long = tmp_path / ("a" * 60)
    long.mkdir()
    for folder in (str(long), "/nowhere/at/all"):
        found = find_ray_folder({name: folder})
        assert found.startswith("/tmp/ray")
        assert len(found) + places.NAMES_BYTES <= places.SOCKET_BYTES


def test_where_nothing_can_be_written_it_is_said(monkeypatch):
    monkeypatch.setattr(places, "SHORT", ("/proc",))
    with pytest.raises(RunnerError, match="no folder for Ray's files") as raised:
        find_ray_folder({})
    assert "RAY_TMPDIR" in raised.value.hint


def test_a_home_that_holds_no_token_gets_one_for_the_process(monkeypatch, tmp_path):
    environment = {}
    monkeypatch.setenv("HOME", "/proc/nothing")
    make_token(environment)
    assert len(environment["RAY_AUTH_TOKEN"]) == 64
    before = dict(environment)
    make_token(environment)
    assert environment == before
    for home in ("/", str(tmp_path)):
        environment = {}
        monkeypatch.setenv("HOME", home)
        make_token(environment)
        assert ("RAY_AUTH_TOKEN" in environment) == (home == "/")


def test_a_token_that_is_there_or_is_not_wanted_is_left_alone(monkeypatch, tmp_path):
    monkeypatch.setenv("HOME", "/proc/nothing")
    for environment in ({"RAY_AUTH_MODE": "disabled"}, {"RAY_AUTH_TOKEN": "x"}):
        before = dict(environment)
        make_token(environment)
        assert environment == before


def test_without_a_home_there_is_no_token(monkeypatch):
    def unknown():
        raise RuntimeError("Could not determine home directory.")

    monkeypatch.setattr(Path, "home", unknown)
    assert find_token({}) is None
    environment = {}
    make_token(environment)
    assert isinstance(find_token(environment), Token)
    assert os.environ.get("RAY_AUTH_TOKEN") != environment["RAY_AUTH_TOKEN"]
