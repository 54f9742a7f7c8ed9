"""What every store does with large objects that are written in parts."""

from dataclasses import replace

import pytest

from cluster.digests import crc64nvme
from cluster.errors import NotFoundError, UnreachableError, UnsupportedError, UploadGoneError
from cluster.stores.probe import check_store_can
from tests.support.stores import CEPH, SEAWEEDFS, read_range, sha, small_pages, write, write_whole

PART = 5 << 20  # the smallest part S3 takes, the last one excepted
# S3 lists a thousand parts a page.
MANY_PARTS = 1005


def test_parts_in_any_order_from_two_hands_make_one_object(store):
    parts = [b"a" * PART, b"b" * PART, b"c" * 10]
    size = 2 * PART + 10
    upload = store.start_upload("deep/big", size=size, metadata={"plan": "p1"})
    other = store.resume_upload("deep/big", upload.id, size=size)
    third = write(other, 3, parts[2], 2 * PART)
    first = write(upload, 1, parts[0], 0)
    write(other, 2, b"x" * PART, PART)
    second = write(upload, 2, parts[1], PART)
    assert list(store.list()) == []
    assert upload.is_open()
    assert other.find_parts([first, second, third]) == {1, 2, 3}
    done = other.complete([first, second, third])
    assert done.size == size
    assert read_range(store, "deep/big", PART - 1, 2) == b"ab"
    assert store.read("deep/big") == b"".join(parts)
    assert upload.complete([first, second, third]).etag == store.head("deep/big").etag
    assert not upload.is_open()


def test_a_part_that_is_not_as_described_is_not_found(store):
    upload = store.start_upload("k", size=10, metadata={})
    part = write(upload, 1, b"0123456789", 0)
    wrong = replace(part, etag="other", sha256=sha(b"other"))
    missing = replace(part, number=2, offset=10)
    assert upload.find_parts([wrong, missing]) == frozenset()
    upload.abort()


def test_an_aborted_upload_is_gone(store):
    upload = store.start_upload("k", size=3, metadata={})
    part = write(upload, 1, b"abc", 0)
    upload.abort()
    upload.abort()
    assert not upload.is_open()
    assert upload.find_parts([part]) == frozenset()
    # moto answers 500 where others say that there is no such upload.
    with pytest.raises((UploadGoneError, NotFoundError, UnreachableError)):
        write(upload, 1, b"abc", 0)
    with pytest.raises((UploadGoneError, UnreachableError)):
        upload.complete([part])


def test_parts_are_found_page_after_page(store):
    upload = store.start_upload("k", size=7, metadata={})
    parts = [write(upload, number, b"%d" % number, number - 1) for number in range(1, 8)]
    with small_pages(store, MaxParts=2):
        assert upload.find_parts(parts) == {1, 2, 3, 4, 5, 6, 7}
    upload.abort()


@pytest.mark.parametrize(
    "store",
    [
        "memory",
        "local",
        pytest.param("moto", marks=[pytest.mark.s3, pytest.mark.slow]),
        pytest.param("seaweedfs", marks=[*SEAWEEDFS, pytest.mark.slow]),
        pytest.param("ceph", marks=CEPH),
    ],
    indirect=True,
)
def test_more_parts_than_a_page_holds_are_all_found(store):
    upload = store.start_upload("k", size=MANY_PARTS, metadata={})
    parts = [write(upload, number, b"x", number - 1) for number in range(1, MANY_PARTS + 1)]
    assert upload.find_parts(parts) == set(range(1, MANY_PARTS + 1))
    upload.abort()


def test_a_part_sent_twice_counts_as_it_was_sent_last(store):
    upload = store.start_upload("k", size=5, metadata={})
    write(upload, 1, b"first", 0)
    last = write(upload, 1, b"other", 0)
    assert upload.find_parts([last]) == {1}
    upload.complete([last])
    assert store.read("k") == b"other"


def test_unfinished_uploads_are_listed_until_they_end(store):
    keys = ["a/1", "a/2", "a/2", "b"]
    uploads = [store.start_upload(key, size=3, metadata={}) for key in keys]
    with small_pages(store, MaxUploads=1):
        found = list(store.list_uploads())
        assert [entry.key for entry in found] == keys
        assert {entry.id for entry in found} == {upload.id for upload in uploads}
        assert all(entry.started > 0 for entry in found)
        assert [entry.key for entry in store.list_uploads("a/")] == keys[:3]
    uploads[3].complete([write(uploads[3], 1, b"abc", 0)])
    uploads[0].abort()
    assert sorted(e.id for e in store.list_uploads()) == sorted(u.id for u in uploads[1:3])
    for upload in uploads[1:3]:
        store.resume_upload("a/2", upload.id, size=3).abort()
    assert list(store.list_uploads()) == []


def test_an_upload_that_never_was_is_gone(store):
    begun = store.start_upload("k", size=3, metadata={})
    begun.abort()
    upload = store.resume_upload("k", begun.id, size=3)
    assert not upload.is_open()
    with pytest.raises((UploadGoneError, UnreachableError)):
        write(upload, 1, b"abc", 0)
    with pytest.raises(NotFoundError):
        store.head("k")


def test_a_completed_upload_takes_no_more_parts(store):
    upload = store.start_upload("k", size=3, metadata={})
    upload.complete([write(upload, 1, b"abc", 0)])
    with pytest.raises((UploadGoneError, UnreachableError)):
        write(upload, 1, b"xyz", 0)
    assert store.read("k") == b"abc"


def test_a_part_that_was_begun_before_the_end_changes_nothing_after_it(store):
    upload = store.start_upload("k", size=3, metadata={})
    late = store.resume_upload("k", upload.id, size=3).start_part(
        1, offset=0, size=3, with_sha256=False
    )
    upload.complete([write(upload, 1, b"abc", 0)])
    before = store.head("k").etag

    def go_on():
        late.append(memoryview(b"abc"))
        late.finish()

    # moto answers 500 where others say that there is no such upload.
    with pytest.raises((UploadGoneError, NotFoundError, UnreachableError)):
        go_on()
    late.discard()
    assert (store.head("k").etag, store.read("k")) == (before, b"abc")


def test_the_checksum_of_the_whole_object_is_known_where_the_store_keeps_it(store, facts):
    written = write_whole(store, "k", b"some content")
    expected = crc64nvme(b"some content") if facts.keeps_crc64nvme else ""
    assert (written.crc64nvme, store.head("k").crc64nvme) == (expected, expected)
    if not facts.keeps_crc64nvme:
        with pytest.raises(UnsupportedError, match="CRC64NVME"):
            check_store_can(facts, store.uri, "keeps_crc64nvme")


def test_what_was_said_at_the_start_is_known_at_the_end_but_in_folders(store):
    upload = store.start_upload("k", size=3, metadata={"plan": "p1"})
    done = upload.complete([write(upload, 1, b"abc", 0)])
    expected = {} if store.uri.startswith("/") else {"plan": "p1"}
    assert (done.metadata, store.head("k").metadata) == (expected, expected)
