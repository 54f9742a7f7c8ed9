"""One suite that every store passes."""

import hashlib
import pickle  # noqa: TID251  # our own bytes
import threading
import uuid
from dataclasses import replace

import pytest

from cluster.errors import (
    AccessError,
    MissingPlaceError,
    NotFoundError,
    PreconditionError,
    UnreachableError,
    UnsupportedError,
    UploadGoneError,
)
from cluster.store import open_store

PART = 5 << 20  # the smallest part S3 takes, the last one excepted

STORES = [
    pytest.param("memory"),
    pytest.param("local"),
    pytest.param("moto", marks=pytest.mark.s3),
    pytest.param("seaweedfs", marks=[pytest.mark.s3, pytest.mark.xdist_group("seaweedfs")]),
]


@pytest.fixture(params=STORES)
def store(request, tmp_path, use):
    name = uuid.uuid4().hex[:12]
    if request.param == "memory":
        return open_store(f"memory://{name}/prefix")
    if request.param == "local":
        return open_store(str(tmp_path / name))
    use(request.getfixturevalue(request.param))
    return open_store(f"s3://plain/{name}")


def sha(data):
    return hashlib.sha256(data).hexdigest()


def write(upload, number, data, offset):
    writer = upload.start_part(number, offset=offset, size=len(data), with_sha256=True)
    writer.append(memoryview(data)[:3])
    writer.append(memoryview(data)[3:])
    return writer.finish()


def read_range(store, key, start, size, **condition):
    buffer = bytearray(size)
    store.read_into(key, memoryview(buffer), start=start, **condition)
    return bytes(buffer)


def test_what_was_put_is_read_back(store):
    written = store.put("a/b c/ü.json", b"content")
    assert store.read("a/b c/ü.json") == b"content"
    found = store.head("a/b c/ü.json")
    assert (found.size, found.etag) == (7, written.etag)


def test_an_empty_object_is_an_object(store):
    store.put("empty", b"")
    assert (store.read("empty"), store.head("empty").size) == (b"", 0)


def test_ranges_are_exact_at_the_borders(store):
    store.put("k", bytes(range(100)))
    assert read_range(store, "k", 0, 100) == bytes(range(100))
    assert read_range(store, "k", 99, 1) == b"c"
    assert read_range(store, "k", 10, 5) == bytes(range(10, 15))


def test_a_range_beyond_the_end_is_an_error(store):
    store.put("k", b"0123456789")
    with pytest.raises(UnreachableError):
        read_range(store, "k", 5, 10)


def test_what_is_not_there_is_not_found(store):
    for call in (store.head, store.read, lambda key: read_range(store, key, 0, 1)):
        with pytest.raises(NotFoundError):
            call("nothing")


def test_a_pinned_read_of_a_changed_object_is_refused(store):
    old = store.put("k", b"old content")
    assert store.read("k", if_match=old.etag) == b"old content"
    store.put("k", b"new content")
    with pytest.raises(PreconditionError):
        store.read("k", if_match=old.etag)
    with pytest.raises(PreconditionError):
        read_range(store, "k", 0, 3, if_match=old.etag)


def test_create_only_if_absent(store):
    store.put("k", b"1", if_absent=True)
    with pytest.raises(PreconditionError):
        store.put("k", b"2", if_absent=True)
    assert store.read("k") == b"1"


def test_compare_and_swap(store):
    first = store.put("k", b"1")
    second = store.put("k", b"2", if_match=first.etag)
    with pytest.raises(PreconditionError):
        store.put("k", b"3", if_match=first.etag)
    with pytest.raises(PreconditionError):
        store.put("absent", b"3", if_match=first.etag)
    assert store.read("k", if_match=second.etag) == b"2"


@pytest.mark.parametrize("how", ["create", "swap"])
def test_of_eight_racers_one_wins(store, how):
    etag = None if how == "create" else store.put("race", b"start").etag
    winners, losers = [], []
    barrier = threading.Barrier(8)

    def race(number):
        barrier.wait()
        try:
            content = str(number).encode()
            if etag is None:
                store.put("race", content, if_absent=True)
            else:
                store.put("race", content, if_match=etag)
            winners.append(number)
        except PreconditionError:
            losers.append(number)

    threads = [threading.Thread(target=race, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert (len(winners), len(losers)) == (1, 7)
    assert store.read("race") == str(winners[0]).encode()


def test_listing_is_sorted_deep_and_by_prefix(store):
    for key in ("b/2", "a", "b/1/x", "c"):
        store.put(key, b"x")
    assert [entry.key for entry in store.list()] == ["a", "b/1/x", "b/2", "c"]
    assert [entry.key for entry in store.list("b/")] == ["b/1/x", "b/2"]
    assert list(store.list("nothing/")) == []


def test_deleting_twice_is_fine(store):
    store.put("k", b"x")
    store.delete("k")
    store.delete("k")
    assert list(store.list()) == []


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


@pytest.mark.parametrize("key", ["../out", "/absolute", "a/../../b", "a\0b", ""])
def test_keys_cannot_leave_the_store(store, key):
    with pytest.raises((UnsupportedError, NotFoundError)):
        store.read(key)
    with pytest.raises((UnsupportedError, NotFoundError)):
        store.put(key, b"x")


def test_a_store_travels_to_another_process(store):
    store.put("k", b"x")
    assert pickle.loads(pickle.dumps(store)).read("k") == b"x"  # our own bytes


@pytest.mark.s3
@pytest.mark.parametrize(
    "server",
    ["moto", pytest.param("seaweedfs", marks=pytest.mark.xdist_group("seaweedfs"))],
)
def test_a_version_is_read_after_it_was_overwritten(server, request, use):
    use(request.getfixturevalue(server))
    store = open_store(f"s3://versioned/{uuid.uuid4().hex}")
    store.put("k", b"old")
    pinned = store.head("k")
    assert pinned.version
    store.put("k", b"new")
    assert store.read("k", version=pinned.version) == b"old"
    assert read_range(store, "k", 1, 2, version=pinned.version) == b"ld"


@pytest.mark.s3
@pytest.mark.parametrize(
    "server",
    ["moto", pytest.param("seaweedfs", marks=pytest.mark.xdist_group("seaweedfs"))],
)
def test_a_missing_bucket_is_named(server, request, use):
    use(request.getfixturevalue(server))
    with pytest.raises((MissingPlaceError, NotFoundError), match="no-such-bucket"):
        list(open_store("s3://no-such-bucket/x").list())
    with pytest.raises(MissingPlaceError, match="no-such-bucket"):
        open_store("s3://no-such-bucket/x").put("k", b"x")


@pytest.mark.s3
@pytest.mark.xdist_group("seaweedfs")
def test_wrong_credentials_are_refused_and_not_printed(seaweedfs, use):
    use({**seaweedfs, "AWS_ACCESS_KEY_ID": "testkey", "AWS_SECRET_ACCESS_KEY": "canary-secret"})
    with pytest.raises(AccessError) as caught:
        open_store("s3://plain/x").put("k", b"x")
    assert "canary" not in str(caught.value) + caught.value.hint


@pytest.mark.parametrize("scheme", ["gs", "az", "hf", "https"])
def test_other_schemes_are_refused_with_the_way_to_go(scheme):
    with pytest.raises(UnsupportedError) as caught:
        open_store(f"{scheme}://bucket/x")
    assert caught.value.hint


def test_credentials_in_a_uri_are_refused():
    with pytest.raises(UnsupportedError) as caught:
        open_store("s3://key:secret@bucket/x")
    assert "secret" not in str(caught.value)
