"""One suite that every store passes."""

import pickle  # noqa: TID251  # our own bytes
import threading

import pytest

from cluster.errors import (
    MissingPlaceError,
    NotFoundError,
    PreconditionError,
    UnreachableError,
    UnsupportedError,
)
from cluster.stores.open_store import open_store
from tests.support.stores import read_range, read_with, small_pages


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


@pytest.mark.parametrize("key", ["../out", "/absolute", "a/../../b", "a\0b", ""])
def test_keys_cannot_leave_the_store(store, key):
    with pytest.raises((UnsupportedError, NotFoundError)):
        store.read(key)
    with pytest.raises((UnsupportedError, NotFoundError)):
        store.put(key, b"x")


def test_a_store_travels_to_another_process(store):
    store.put("k", b"x")
    assert pickle.loads(pickle.dumps(store)).read("k") == b"x"  # our own bytes


def test_an_open_reader_never_gives_other_bytes_than_those_it_was_pinned_to(store):
    old = store.put("k", b"old content")
    reader = store.open_reader("k", if_match=old.etag)
    assert read_with(reader, 4, 7) == b"content"
    store.put("k", b"new content, longer")
    try:
        assert read_with(reader, 0, 11) == b"old content"  # a folder's open file
    except PreconditionError:
        pass
    finally:
        reader.close()
    with pytest.raises(PreconditionError):
        read_with(store.open_reader("k", if_match=old.etag), 0, 3)


def test_listing_goes_on_page_after_page(store):
    keys = [f"k{number}" for number in range(7)]
    for key in keys:
        store.put(key, b"x")
    with small_pages(store, MaxKeys=2):
        assert [entry.key for entry in store.list()] == keys


def test_a_version_is_read_after_it_was_overwritten(versioned):
    versioned.put("k", b"old")
    pinned = versioned.head("k")
    assert pinned.version
    versioned.put("k", b"newer")
    assert versioned.read("k", version=pinned.version) == b"old"
    assert read_range(versioned, "k", 1, 2, version=pinned.version) == b"ld"
    reader = versioned.open_reader("k", version=pinned.version)
    assert read_with(reader, 0, 3) == b"old"
    found = versioned.head("k", version=pinned.version)
    assert (found.size, found.etag) == (3, pinned.etag)
    assert versioned.head("k").size == 5


def test_a_folder_refuses_versions(tmp_path):
    store = open_store(str(tmp_path))
    store.put("k", b"x")
    for call in (store.head, store.read, store.open_reader):
        with pytest.raises(UnsupportedError, match="versions"):
            call("k", version="v1")


def test_a_missing_bucket_is_named(server):
    with pytest.raises((MissingPlaceError, NotFoundError), match="no-such-bucket"):
        list(open_store("s3://no-such-bucket/x").list())
    with pytest.raises(MissingPlaceError, match="no-such-bucket"):
        open_store("s3://no-such-bucket/x").put("k", b"x")


@pytest.mark.parametrize("scheme", ["gs", "az", "hf", "https"])
def test_other_schemes_are_refused_with_the_way_to_go(scheme):
    with pytest.raises(UnsupportedError) as caught:
        open_store(f"{scheme}://bucket/x")
    assert caught.value.hint


def test_credentials_in_a_uri_are_refused():
    with pytest.raises(UnsupportedError) as caught:
        open_store("s3://key:secret@bucket/x")
    assert "secret" not in str(caught.value)
