"""Pins of local files: the change time and some bytes are in them; older pins stay valid."""

import os
from dataclasses import replace

import pytest

from cluster.stores.seals import split_seal
from fusion.checkpoints.checkpoint import Pin
from jobs.candidates.changes import is_same_pin
from jobs.candidates.pin import check_pins, open_pinned
from jobs.errors import SourceChangedError
from tests.support.checkpoints import pin, whole_checkpoint, write_files

SHARD = "model.safetensors"


@pytest.fixture
def folder(tmp_path):
    write_files(tmp_path / "s", whole_checkpoint())
    return tmp_path / "s"


def overwrite(path):
    facts, content = path.stat(), path.read_bytes()
    path.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    os.utime(path, ns=(facts.st_atime_ns, facts.st_mtime_ns))


def test_an_overwrite_that_keeps_size_and_time_is_a_changed_source(folder):
    candidate = pin(folder)
    overwrite(folder / SHARD)
    with pytest.raises(SourceChangedError, match=SHARD):
        check_pins(candidate.uri, candidate.shards)


def test_a_backup_that_links_and_a_new_mode_are_no_change(folder, tmp_path):
    candidate = pin(folder)
    for file in folder.iterdir():
        (tmp_path / f"backup-{file.name}").hardlink_to(file)
        file.chmod(0o640)
    check_pins(candidate.uri, (*candidate.shards, *candidate.side_files))
    again = open_pinned(candidate.uri, candidate.shards, candidate.side_files, name="s")
    assert again.tensors == candidate.tensors


def test_pins_of_an_earlier_release_stay_valid(folder):
    candidate = pin(folder)
    older = tuple(
        replace(f, pin=replace(f.pin, etag=split_seal(f.pin.etag)[0])) for f in candidate.shards
    )
    assert older != candidate.shards
    check_pins(candidate.uri, older)
    assert open_pinned(candidate.uri, older, (), name="s").tensors == candidate.tensors


def test_pins_are_the_same_by_what_both_of_them_tell():
    sealed = Pin(1, "a-b-c~1~ff")
    assert is_same_pin(sealed, Pin(1, "a-b-c~2~ff"))
    assert is_same_pin(sealed, Pin(1, "a-b-c"))
    assert not is_same_pin(sealed, Pin(1, "a-b-c~1~fe"))
    assert not is_same_pin(sealed, Pin(1, "a-b-d~1~ff"))
    assert not is_same_pin(sealed, Pin(2, "a-b-c~1~ff"))
    assert not is_same_pin(sealed, None)
    assert not is_same_pin(Pin(1, '"e-5"'), Pin(1, '"f-5"'))
