import errno
import os

import pytest

from cluster.errors import AccessError, FullError, MissingPlaceError, NotFoundError
from cluster.stores.local.store import LocalStore
from cluster.stores.probe import probe_store


def write_part(upload):
    writer = upload.start_part(1, offset=0, size=4, with_sha256=False)
    writer.append(memoryview(b"abcd"))
    return writer.finish()


def test_a_link_that_leaves_the_folder_is_not_opened(tmp_path):
    (tmp_path / "outside").write_bytes(b"secret")
    (tmp_path / "root").mkdir()
    (tmp_path / "root" / "k").symlink_to(tmp_path / "outside")
    with pytest.raises(AccessError, match="leaves"):
        LocalStore(str(tmp_path / "root")).read("k")


def test_a_link_inside_the_folder_is_followed(tmp_path):
    (tmp_path / "blob").write_bytes(b"weights")
    (tmp_path / "k").symlink_to(tmp_path / "blob")
    assert LocalStore(str(tmp_path)).read("k") == b"weights"


def test_a_device_is_not_an_object(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(NotFoundError):
        LocalStore(str(tmp_path)).read("pipe")


def test_a_folder_that_cannot_be_written_is_named(tmp_path):
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(MissingPlaceError, match="file"):
        LocalStore(str(tmp_path / "file" / "out")).put("k", b"x")
    assert not probe_store(LocalStore(str(tmp_path / "file" / "out"))).is_writable


def test_a_full_disk_is_seen_before_the_first_byte(tmp_path):
    store = LocalStore(str(tmp_path))
    with pytest.raises(FullError, match="are free"):
        store.start_upload("k", size=1 << 60, metadata={})
    assert list(tmp_path.iterdir()) == []


def test_a_disk_that_fills_up_while_writing_is_reported(tmp_path, monkeypatch):
    upload = LocalStore(str(tmp_path)).start_upload("k", size=4, metadata={})

    def full(*_):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "pwrite", full)
    with pytest.raises(FullError):
        write_part(upload)


@pytest.mark.parametrize("missing", [True, False])
def test_uploads_work_where_preallocation_does_not(tmp_path, monkeypatch, missing):
    if missing:
        monkeypatch.delattr(os, "posix_fallocate")
    else:

        def unsupported(*_):
            raise OSError(errno.EOPNOTSUPP, "Operation not supported")

        monkeypatch.setattr(os, "posix_fallocate", unsupported)
    store = LocalStore(str(tmp_path))
    upload = store.start_upload("k", size=4, metadata={})
    part = write_part(upload)
    upload.complete([part])
    assert store.read("k") == b"abcd"


def test_a_writable_store_passes_the_probe(tmp_path):
    facts = probe_store(LocalStore(str(tmp_path)))
    assert facts.is_writable
    assert facts.has_conditional_create
    assert facts.has_conditional_update
    assert [p.name for p in tmp_path.iterdir() if not p.name.startswith(".")] == []


def test_reads_work_where_preadv_does_not_exist(tmp_path, monkeypatch):
    store = LocalStore(str(tmp_path))
    store.put("k", b"0123456789")
    monkeypatch.delattr(os, "preadv")
    buffer = bytearray(4)
    store.read_into("k", memoryview(buffer), start=3)
    assert bytes(buffer) == b"3456"
