"""What a probe says of a store is true, and what it denies is refused."""

import contextlib
import dataclasses

import pytest

from cluster.errors import PreconditionError, UnsupportedError
from cluster.stores.open_store import open_store
from cluster.stores.probe import MEANINGS, StoreFacts, check_store_can, probe_store
from tests.support.deaf_proxy import DeafProxy
from tests.support.stores import read_range

pytestmark = pytest.mark.s3
WRITES = ("has_conditional_create", "has_conditional_update")


@contextlib.contextmanager
def deaf(moto, use, *headers, **how):
    with DeafProxy(moto["AWS_ENDPOINT_URL_S3"], *headers, **how) as proxy:
        use({**moto, "AWS_ENDPOINT_URL_S3": proxy.url})
        yield open_store("s3://plain/deaf")


def test_every_store_of_the_suite_can_be_written_and_read_under_a_pin(store, facts):
    assert facts.problem == ""
    check_store_can(facts, store.uri, "is_writable", "has_ranges", "has_pinned_reads", *WRITES)


def test_a_probe_leaves_nothing_behind(store):
    probe_store(store, is_thorough=True)
    assert list(store.list()) == []
    assert list(store.list_uploads()) == []


def test_conditions_of_writes_hold_on_a_versioned_bucket_or_are_refused(versioned):
    facts = probe_store(versioned)
    assert facts.has_versions
    if facts.has_conditional_create and facts.has_conditional_update:
        first = versioned.put("k", b"1", if_absent=True)
        versioned.put("k", b"2", if_match=first.etag)
        for condition in ({"if_absent": True}, {"if_match": first.etag}):
            with pytest.raises(PreconditionError):
                versioned.put("k", b"3", **condition)
        assert versioned.read("k") == b"2"
    else:
        with pytest.raises(UnsupportedError, match="Match"):
            check_store_can(facts, versioned.uri, *WRITES)


def test_a_server_that_ignores_conditions_of_writes_is_found_out(moto, use):
    with deaf(moto, use, "If-None-Match", "If-Match", methods=("PUT",)) as store:
        facts = probe_store(store)
    assert (facts.is_writable, facts.has_conditional_create) == (True, False)
    assert (facts.has_conditional_update, facts.has_pinned_reads) == (False, True)
    with pytest.raises(UnsupportedError) as caught:
        check_store_can(facts, store.uri, *WRITES)
    assert "If-None-Match" in str(caught.value)
    assert "compare-and-swap" in str(caught.value)
    assert caught.value.hint


def test_a_server_that_ignores_ranges_is_refused(moto, use):
    with deaf(moto, use, "Range") as store:
        store.put("k", b"0123456789")
        with pytest.raises(UnsupportedError, match="ignores Range"):
            read_range(store, "k", 3, 4)
        assert not probe_store(store).has_ranges


def test_a_server_that_ignores_the_pin_of_a_read_is_refused(moto, use):
    with deaf(moto, use, "If-Match") as store:
        old = store.put("k", b"0123456789")
        store.put("k", b"9876543210")
        with pytest.raises(UnsupportedError, match="ignores IfMatch"):
            read_range(store, "k", 3, 4, if_match=old.etag)
        with pytest.raises(UnsupportedError, match="ignores IfMatch"):
            store.read("k", if_match=old.etag)
        facts = probe_store(store)
    assert (facts.has_ranges, facts.has_pinned_reads) == (True, False)


def test_a_place_that_cannot_be_written_says_why(server):
    facts = probe_store(open_store("s3://no-such-bucket/x"))
    assert not facts.is_writable
    with pytest.raises(UnsupportedError, match="no-such-bucket"):
        check_store_can(facts, "s3://no-such-bucket/x", "is_writable")


def test_everything_that_can_be_asked_for_is_a_fact():
    names = {field.name for field in dataclasses.fields(StoreFacts)}
    assert set(MEANINGS) == names - {"part_check", "problem"}
