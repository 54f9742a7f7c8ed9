"""Servers that break every body, or are away for a while."""

import http.server
import threading
import time
from contextlib import contextmanager

import pytest

from cluster.errors import AwayError, UnreachableError
from cluster.stores.open_store import open_store
from cluster.stores.outage import waited_out

CONTENT = bytes(range(256)) * (3 << 12)  # 3 MiB
SIZE = len(CONTENT)
ETAG = '"e"'


class Handler(http.server.BaseHTTPRequestHandler):
    """Serves CONTENT, `most` bytes of it an answer, but 500 while `away` is above 0."""

    protocol_version = "HTTP/1.1"

    def log_message(self, *_):
        pass

    def do_GET(self):  # a name of http.server
        self.server.seen.append(time.monotonic())
        if self.server.away:
            self.server.away -= 1
            self.send_response(500)
            self.send_header("Content-Length", "0")
            self.end_headers()
            return
        span = self.headers.get("Range", f"bytes=0-{len(CONTENT) - 1}").removeprefix("bytes=")
        first, last = map(int, span.split("-"))
        self.send_response(206)
        self.send_header("ETag", ETAG)
        self.send_header("Content-Range", f"bytes {first}-{last}/{len(CONTENT)}")
        self.send_header("Content-Length", str(last + 1 - first))
        self.end_headers()
        body = CONTENT[first : last + 1]
        self.wfile.write(body[: self.server.most])
        self.close_connection = len(body) > self.server.most


@contextmanager
def serving(use, *, most=SIZE, away=0, **options):
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    server.seen, server.most, server.away = [], most, away
    threading.Thread(target=server.serve_forever, daemon=True).start()
    use({
        "AWS_ENDPOINT_URL_S3": f"http://127.0.0.1:{server.server_address[1]}",
        "AWS_ACCESS_KEY_ID": "a", "AWS_SECRET_ACCESS_KEY": "b", "METAFUSE_S3_RETRIES": "0",
        **options,
    })  # fmt: skip
    try:
        yield server
    finally:
        server.shutdown()
        server.server_close()


def read(store, size=SIZE):
    buffer = bytearray(size)
    store.read_into("k", memoryview(buffer), start=0, if_match=ETAG)
    return bytes(buffer)


def test_a_server_that_breaks_every_body_early_is_given_up_after_a_few_tries_with_pauses(use):
    with serving(use, most=1000) as server:
        with pytest.raises(UnreachableError, match=r"broke off 5 times, 5000 arrived"):
            read(open_store("s3://bucket/x"))
        pauses = [b - a for a, b in zip(server.seen, server.seen[1:], strict=False)]
        assert len(pauses) == 4
        assert pauses[0] >= 0.1
        assert pauses[-1] >= 0.8
        with pytest.raises(UnreachableError, match="broke off 5 times"):
            open_store("s3://bucket/x").read("k")
        assert len(server.seen) == 10


def test_a_server_that_breaks_bodies_after_a_mebibyte_serves_them_whole(use):
    with serving(use, most=600_000) as server:
        assert read(open_store("s3://bucket/x")) == CONTENT
        assert len(server.seen) == 6


def test_a_store_that_has_answered_is_waited_for(use):
    with serving(use, METAFUSE_S3_OUTAGE_SECONDS="20") as server:
        store = open_store("s3://bucket/x")
        assert read(store, 10) == CONTENT[:10]
        server.away = 2
        assert read(store, 10) == CONTENT[:10]
        assert len(server.seen) == 4


def test_an_outage_without_end_is_told(use):
    with serving(use, METAFUSE_S3_OUTAGE_SECONDS="1") as server:
        store = open_store("s3://bucket/x")
        read(store, 10)
        server.away = 1 << 30
        started = time.monotonic()
        with pytest.raises(AwayError):
            read(store, 10)
        assert time.monotonic() - started >= 1.0


def test_a_store_that_never_answered_is_not_waited_for(use):
    with serving(use, away=1 << 30, METAFUSE_S3_OUTAGE_SECONDS="600") as server:
        with pytest.raises(AwayError):
            read(open_store("s3://bucket/x"), 10)
        assert len(server.seen) == 1


def test_work_is_begun_again_until_its_store_is_back_or_a_minute_is_over():
    now, tries = [0.0], []

    def work(back):
        tries.append(now[0])
        if now[0] < back:
            raise AwayError("down")
        return "done"

    def sleep(seconds):
        now[0] += seconds

    assert waited_out(lambda: work(50.0), 3.0, sleep=sleep, clock=lambda: now[0]) == "done"
    assert len(tries) == 18
    with pytest.raises(AwayError):
        waited_out(lambda: work(1e9), 30.0, sleep=sleep, clock=lambda: now[0])
    assert now[0] < 200.0
