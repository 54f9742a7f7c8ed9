"""Sealed etags: an overwrite that keeps size and time is told; a new mode or name is none."""

import os

import pytest

from cluster.errors import PreconditionError
from cluster.stores.local.store import LocalStore
from cluster.stores.seals import find_checksum, seal, split_seal

SIZES = [1, 1000, 64 << 10, (64 << 10) + 1, 3 << 20]


def sealed(store, key):
    entry = store.head(key)
    with_checksum = find_checksum(store.open_reader(key), entry.size)
    return seal(entry.etag, entry.changed_ns, with_checksum)


def overwrite(path, place):
    """Change one byte in place and set the time back."""
    facts = path.stat()
    content = bytearray(path.read_bytes())
    content[place] ^= 1
    with path.open("r+b") as file:
        file.write(content)
    os.utime(path, ns=(facts.st_atime_ns, facts.st_mtime_ns))
    assert path.stat().st_mtime_ns == facts.st_mtime_ns


@pytest.fixture(params=SIZES)
def file(request, tmp_path):
    (tmp_path / "k").write_bytes(os.urandom(request.param))
    return tmp_path / "k"


@pytest.mark.parametrize("place", [0, -1])
def test_an_overwrite_that_keeps_size_and_time_is_another_file(file, place):
    store = LocalStore(str(file.parent))
    etag = sealed(store, "k")
    overwrite(file, place)
    assert store.head("k").etag == split_seal(etag)[0]
    with pytest.raises(PreconditionError):
        store.read("k", if_match=etag)
    with pytest.raises(PreconditionError):
        store.open_reader("k", if_match=etag)


def test_an_open_file_is_asked_again_after_each_read(file):
    store = LocalStore(str(file.parent))
    reader = store.open_reader("k", if_match=sealed(store, "k"))
    buffer = memoryview(bytearray(1))
    reader.read_into(buffer, start=0)
    file.chmod(0o600)
    reader.read_into(buffer, start=0)
    overwrite(file, 0)
    with pytest.raises(PreconditionError):
        reader.read_into(buffer, start=0)


def test_another_mode_owner_or_name_changes_nothing(file, tmp_path):
    store = LocalStore(str(file.parent))
    etag, content = sealed(store, "k"), file.read_bytes()
    file.chmod(0o600)
    (tmp_path / "kept").hardlink_to(file)
    assert store.head("k").changed_ns != split_seal(etag)[1]
    assert store.read("k", if_match=etag) == content


def test_an_etag_that_is_not_sealed_stays_valid(file):
    store = LocalStore(str(file.parent))
    etag = store.head("k").etag
    assert split_seal(etag) == (etag, None, "")
    file.chmod(0o600)
    assert store.read("k", if_match=etag) == file.read_bytes()
