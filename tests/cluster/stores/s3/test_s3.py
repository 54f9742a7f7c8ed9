"""What only S3 stores do: options, pace, checksums on the way up, secrets."""

import logging
import threading
import uuid
from base64 import b64encode
from contextlib import contextmanager

import pytest

from cluster.digests import crc64nvme
from cluster.errors import AccessError, ClusterError, DigestError, RegionError, UnsupportedError
from cluster.stores.open_store import open_store
from cluster.stores.s3.checks import bare
from cluster.stores.s3.errors import translated
from cluster.stores.s3.options import S3Options, read_options
from cluster.stores.s3.upload import Body
from tests.servers.fault_proxy import FaultProxy
from tests.support.stores import CEPH, SEAWEEDFS, read_range, write, write_whole

CHECKS = {"moto": "etag", "seaweedfs": "crc64nvme", "ceph": "md5"}


@pytest.fixture
def plain(moto, use):
    use(moto)
    return open_store(f"s3://plain/{uuid.uuid4().hex[:12]}")


@contextmanager
def watched(store):
    """Every request that is really sent."""
    sent = []

    def record(request, **_):
        sent.append((request.method, dict(request.headers), store.connection.pace.in_flight))

    store.client.meta.events.register("before-send.s3", record)
    try:
        yield sent
    finally:
        store.client.meta.events.unregister("before-send.s3", record)


def use_everything(store):
    """Each verb once; returns the number of requests."""
    first = store.put("k", b"0123456789")
    store.put("k", b"0123456789", if_match=first.etag)
    store.head("k")
    store.read("k")
    read_range(store, "k", 2, 3)
    upload = store.start_upload("u", size=3, metadata={})
    part = write(upload, 1, b"abc", 0)
    upload.find_parts([part])
    list(store.list_uploads())
    upload.complete([part])
    store.start_upload("gone", size=3, metadata={}).abort()
    list(store.list())
    store.delete("k")
    return 15


def test_without_an_environment_the_defaults_hold():
    assert read_options({}) == S3Options()
    assert read_options({"METAFUSE_S3_RETRIES": " "}) == S3Options()


def test_every_option_can_be_set():
    values = {
        "RETRIES": "0", "CONNECT_SECONDS": "0.5", "READ_SECONDS": "2", "OUTAGE_SECONDS": "5",
        "CONNECTIONS": "7",
        "ADDRESSING": "virtual", "CHECKSUM": "md5", "REQUESTER_PAYS": "1",
    }  # fmt: skip
    found = read_options({f"METAFUSE_S3_{name}": value for name, value in values.items()})
    assert found == S3Options(0, 0.5, 2.0, 5, 7, "virtual", "md5", requester_pays=True)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("RETRIES", "many"), ("RETRIES", "-1"), ("RETRIES", "1.5"), ("CONNECTIONS", "0"),
        ("CONNECTIONS", "9" * 30), ("CONNECT_SECONDS", "0"), ("CONNECT_SECONDS", "nan"),
        ("READ_SECONDS", "inf"), ("READ_SECONDS", "ten"), ("ADDRESSING", "dns"),
        ("CHECKSUM", "sha1"), ("REQUESTER_PAYS", "yes"),
    ],
)  # fmt: skip
def test_a_value_that_means_nothing_is_refused_by_name(name, value, use):
    use({f"METAFUSE_S3_{name}": value})
    with pytest.raises(UnsupportedError, match=f"METAFUSE_S3_{name} is '{value}'") as caught:
        open_store("s3://plain/x").read("k")
    assert name in caught.value.hint


def test_an_endpoint_that_is_no_url_is_refused_and_not_printed(use):
    use({"AWS_ENDPOINT_URL_S3": "key:canary@host", "AWS_DEFAULT_REGION": "us-east-1"})
    with pytest.raises(UnsupportedError, match="endpoint") as caught:
        open_store("s3://plain/x").read("k")
    assert "canary" not in str(caught.value) + caught.value.hint


def test_a_region_that_is_none_is_refused(moto, use):
    use({**moto, "AWS_DEFAULT_REGION": "not a region"})
    with pytest.raises(RegionError):
        open_store("s3://plain/x").read("k")


def test_a_bucket_name_that_is_none_is_refused(moto, use):
    use(moto)
    with pytest.raises(UnsupportedError):
        open_store("s3://no bucket/x").read("k")


@pytest.mark.parametrize(
    ("addressing", "url"),
    [("path", "http://localhost:1/plain/x/k"), ("virtual", "http://plain.localhost:1/x/k")],
)
def test_the_bucket_stands_where_it_is_wanted(addressing, url, moto, use):
    use({**moto, "AWS_ENDPOINT_URL_S3": "http://localhost:1", "METAFUSE_S3_RETRIES": "0"})
    use({"METAFUSE_S3_ADDRESSING": addressing})
    store = open_store("s3://plain/x")
    urls = []
    store.client.meta.events.register(
        "before-send.s3", lambda request, **_: urls.append(request.url)
    )
    with pytest.raises(ClusterError):
        store.read("k")
    assert urls == [url]


@pytest.mark.s3
def test_who_asks_pays_for_every_request_if_told_so(plain, use):
    use({"METAFUSE_S3_REQUESTER_PAYS": "1"})
    with watched(plain) as sent:
        assert use_everything(plain) <= len(sent)
    assert all(headers.get("x-amz-request-payer") == b"requester" for _, headers, _ in sent)


@pytest.mark.s3
def test_nobody_pays_for_others_without_being_told(plain):
    with watched(plain) as sent:
        use_everything(plain)
    assert not any("x-amz-request-payer" in headers for _, headers, _ in sent)


@pytest.mark.s3
def test_every_request_is_counted_among_those_in_flight(plain):
    with watched(plain) as sent:
        assert use_everything(plain) <= len(sent)
    assert {in_flight for _, _, in_flight in sent} == {1}
    assert plain.connection.pace.in_flight == 0


@pytest.mark.s3
def test_a_consumer_of_a_list_may_ask_more_while_one_request_is_allowed(plain, use):
    use({"METAFUSE_S3_CONNECTIONS": "1"})
    for key in ("a", "b"):
        plain.put(key, key.encode())
    assert [plain.read(entry.key) for entry in plain.list()] == [b"a", b"b"]


@pytest.mark.s3
def test_a_server_that_asks_for_slow_going_gets_it_and_later_full_speed(moto, use):
    with FaultProxy(moto["AWS_ENDPOINT_URL_S3"]) as proxy:
        use({**moto, "AWS_ENDPOINT_URL_S3": proxy.url, "METAFUSE_S3_CONNECTIONS": "12"})
        use({"METAFUSE_S3_RETRIES": "6"})
        store = open_store(f"s3://plain/{uuid.uuid4().hex}")
        store.put("k", b"0123456789")
        pace = store.connection.pace
        assert pace.limit.allowed == 12
        proxy.add("slowdown", method="GET", times=5)
        read_in_threads(store, threads=12, times=1)
        slow = pace.limit.allowed
        assert len(proxy.log) == 5
        assert 1 <= slow < 10
        read_in_threads(store, threads=4, times=10)
        assert slow + 2 < pace.limit.allowed <= 12


def read_in_threads(store, *, threads, times):
    found = []

    def work():
        found.extend(read_range(store, "k", 2, 3) for _ in range(times))

    workers = [threading.Thread(target=work) for _ in range(threads)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    assert found == [b"234"] * threads * times


SERVERS = [
    pytest.param("moto", marks=pytest.mark.s3),
    pytest.param("seaweedfs", marks=SEAWEEDFS),
    pytest.param("ceph", marks=CEPH),
]


@pytest.mark.parametrize("name", SERVERS)
@pytest.mark.long
def test_a_bit_flipped_on_the_way_up_is_seen_whatever_the_server_verifies(name, request, use):
    environment = request.getfixturevalue(name)
    with FaultProxy(environment["AWS_ENDPOINT_URL_S3"]) as proxy:
        use({**environment, "AWS_ENDPOINT_URL_S3": proxy.url})
        store = open_store(f"s3://plain/{uuid.uuid4().hex}")
        assert store.find_part_check("k") == CHECKS[name]
        proxy.add("corrupt", method="PUT", path="partNumber", times=1)
        write_whole(store, "k", b"content" * 1000)
        assert store.read("k") == b"content" * 1000
        assert [kind for kind, *_ in proxy.log] == ["corrupt"]
        proxy.add("corrupt", method="PUT", path="partNumber")
        with pytest.raises(DigestError):
            write_whole(store, "other", b"content" * 1000)


@pytest.mark.parametrize("name", SERVERS)
def test_a_wrong_checksum_of_a_part_is_refused_where_the_probe_says_so(name, request, use):
    use(request.getfixturevalue(name))
    store = open_store(f"s3://plain/{uuid.uuid4().hex}")
    upload = store.start_upload("k", size=3, metadata={})
    check = store.find_part_check("k")
    wrong = {"ContentMD5": b64encode(bytes(16)).decode()}
    if check == "crc64nvme":
        wrong = {"ChecksumCRC64NVME": b64encode(bytes.fromhex(crc64nvme(b"xyz"))).decode()}
    address = {**store.address("k"), "UploadId": upload.id, "PartNumber": 1}

    def send():
        with translated(store.uri, "k"):
            store.client.upload_part(**address, Body=b"abc", **wrong)

    if check == "etag":
        send()
    else:
        with pytest.raises(DigestError):
            send()
    upload.abort()


@pytest.mark.s3
def test_what_the_server_verifies_is_found_out_once_and_leaves_nothing(plain):
    plain.connection.learned.part_check = None
    for _ in range(3):
        write_whole(plain, "k", b"abc")
    with watched(plain) as sent:
        write_whole(plain, "k", b"abc")
    assert len(sent) == 4  # begin, part, complete, head
    assert [entry.key for entry in plain.list()] == ["k"]
    assert list(plain.list_uploads()) == []


@pytest.mark.s3
@pytest.mark.parametrize(
    ("checksum", "header"), [("md5", "Content-MD5"), ("crc64nvme", "x-amz-checksum-crc64nvme")]
)
def test_a_checksum_that_is_named_is_not_tried_out(checksum, header, moto, use):
    with FaultProxy(moto["AWS_ENDPOINT_URL_S3"]) as proxy:
        use({**moto, "AWS_ENDPOINT_URL_S3": proxy.url, "METAFUSE_S3_CHECKSUM": checksum})
        store = open_store(f"s3://plain/{uuid.uuid4().hex}")
        with watched(store) as sent:
            store.put("k", b"content")
        assert [(method, header in headers) for method, headers, _ in sent] == [("PUT", True)]


@pytest.mark.slow
@pytest.mark.s3
@pytest.mark.xdist_group("ceph")
def test_a_server_that_wants_bare_etags_is_asked_once_too_often_only(ceph, use):
    use(ceph)
    store = open_store(f"s3://plain/{uuid.uuid4().hex}")
    store.connection.learned.takes_bare_etags = False
    written = store.put("k", b"1")
    counts = []
    for number in range(3):
        with watched(store) as sent:
            written = store.put("k", b"%d" % number, if_match=written.etag)
        counts.append(len(sent))
    assert bare(written.etag) != written.etag
    assert counts == [3, 1, 1]  # quoted, head, bare; then bare at once


def test_a_body_is_read_without_a_copy_and_again_after_a_rewind():
    content = bytearray(range(256)) * 4096
    body = Body(memoryview(content))
    assert len(body) == body.seek(0, 2) == 1 << 20
    for _ in range(2):
        body.seek(0)
        pieces = list(iter(lambda: body.read(16384), b""))
        assert b"".join(pieces) == content
        assert all(piece.obj is content for piece in pieces)
        assert body.tell() == len(content)
    body.seek(10)
    assert body.seek(5, 1) == 15
    assert body.read() == content[15:]


@pytest.mark.s3
@pytest.mark.xdist_group("seaweedfs")
def test_wrong_credentials_are_refused_and_not_printed(seaweedfs, use, caplog):
    caplog.set_level(logging.DEBUG)
    use({**seaweedfs, "AWS_ACCESS_KEY_ID": "testkey", "AWS_SECRET_ACCESS_KEY": "canary-secret"})
    use({"AWS_SESSION_TOKEN": "canary-token"})
    with pytest.raises(AccessError) as caught:
        open_store("s3://plain/x").put("k", b"x")
    assert "canary" not in str(caught.value) + caught.value.hint + caplog.text


@pytest.mark.s3
def test_a_session_token_is_sent_and_neither_logged_nor_shown(plain, use, caplog):
    caplog.set_level(logging.DEBUG)
    use({"AWS_SESSION_TOKEN": "canary-token"})
    with watched(plain) as sent:
        plain.put("k", b"x")
        with pytest.raises(ClusterError) as caught:
            plain.read("nothing")
    assert all(headers["X-Amz-Security-Token"] == b"canary-token" for _, headers, _ in sent)
    assert "canary" not in str(caught.value) + caught.value.hint + repr(caught.value) + caplog.text
