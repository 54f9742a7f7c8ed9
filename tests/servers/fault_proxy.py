"""An HTTP proxy that injects S3 faults between a client and a test server.

Grown from fault_proxy.py of the study in which the servers were compared (same project).

    with FaultProxy(upstream, seed=1) as proxy:
        proxy.add("corrupt", method="GET", path="shard-1", times=1)
        boto3.client("s3", endpoint_url=proxy.url); ...
        assert proxy.log == [("corrupt", "GET", "/bucket/shard-1")]

Faults are matched in order, the first that fires wins: by method, path with query, chance `p`, not
before `after` matches, at most `times`.

    slowdown, error, embedded, precondition, conflict, expired, archived, denied, signature, region
                answered with a status and a code; the request is not passed on
    stall       wait `wait` s before the request is passed on
    hang        wait `wait` s after the first bytes of the body
    slow        body at `rate` bytes a second, both ways
    reset       RST in the middle of the response body      truncate  close there, full length said
    short       half of the body, with a length that fits   shifted   a body of another range
    corrupt     one bit flipped in the response body of a GET, in the request body of a PUT or POST
    lost        passed on, then RST instead of the answer: it took effect, the client cannot tell

The Host header goes through unchanged, so signatures stay good. Plain HTTP on 127.0.0.1 only.
"""

import http.client
import random
import re
import socket
import struct
import threading
import time
import urllib.parse
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

ANSWERS = {
    "slowdown": (503, "SlowDown"),
    "error": (500, "InternalError"),
    "embedded": (200, "InternalError"),
    "precondition": (412, "PreconditionFailed"),
    "conflict": (409, "ConditionalRequestConflict"),
    "expired": (400, "ExpiredToken"),
    "archived": (403, "InvalidObjectState"),
    "denied": (403, "AccessDenied"),
    "signature": (403, "SignatureDoesNotMatch"),
    "region": (
        400, "AuthorizationHeaderMalformed", "<Region>eu-central-1</Region>",
        "the region 'us-east-1' is wrong; expecting 'eu-central-1'",
    ),
}  # fmt: skip
KINDS = (
    *ANSWERS, "stall", "hang", "slow", "reset", "truncate", "short", "shifted", "corrupt", "lost",
)  # fmt: skip
HOP = {"connection", "keep-alive", "transfer-encoding", "proxy-connection", "content-length"}
BLOCK = 1 << 18


class Fault:
    """What goes wrong, and when."""

    def __init__(
        self, kind, *, method=None, path=".", p=1.0, times=None, after=0, wait=2.0, rate=8 << 20
    ):
        assert kind in KINDS, kind
        self.kind, self.method, self.path, self.p = kind, method, re.compile(path), p
        self.times, self.after, self.wait, self.rate = times, after, wait, rate
        self.seen = self.fired = 0

    def matches(self, method, path):
        left = self.times is None or self.fired < self.times
        return left and self.method in (None, method) and self.path.search(path) is not None


class FaultProxy:
    """Serves while its `with` block runs. `log` is what was injected, `requests` what came in."""

    def __init__(self, upstream, seed=0):
        parts = urllib.parse.urlsplit(upstream)
        self.upstream = (parts.hostname, parts.port or 80)
        self.faults, self.log, self.requests = [], [], []
        self.lock, self.random = threading.Lock(), random.Random(seed)
        handler = type("Handler", (_Handler,), {"proxy": self})
        self.server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
        self.server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self.server.server_address[1]}"

    def add(self, kind, **how):
        with self.lock:
            self.faults.append(Fault(kind, **how))
        return self

    def clear(self, seed=0):
        """No faults and no memory of any."""
        with self.lock:
            self.faults.clear()
            self.log.clear()
            self.requests.clear()
            self.random.seed(seed)

    def pick(self, method, path):
        """The fault that strikes this request, or None, and where in the body it does."""
        with self.lock:
            self.requests.append((method, path))
            for fault in self.faults:
                if not fault.matches(method, path):
                    continue
                fault.seen += 1
                if fault.seen > fault.after and self.random.random() < fault.p:
                    fault.fired += 1
                    self.log.append((fault.kind, method, path.split("?")[0]))
                    return fault, self.random.random()
        return None, 0.0

    def __enter__(self):
        how = {"poll_interval": 0.05}
        threading.Thread(target=self.server.serve_forever, kwargs=how, daemon=True).start()
        return self

    def __exit__(self, *_):
        self.server.shutdown()
        self.server.server_close()


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    proxy: FaultProxy

    def log_message(self, *_):
        pass

    def handle_one_request(self):
        try:
            super().handle_one_request()
        except (ConnectionError, ValueError):  # the client went away, or hang_up closed the files
            self.close_connection = True

    def answer(self, status, code, more="", message="injected"):
        said = f"<Code>{code}</Code><Message>{message}</Message>{more}"
        text = f"<?xml version='1.0'?><Error>{said}</Error>"
        self.send_response(status)
        self.send_header("Content-Type", "application/xml")
        self.send_header("Content-Length", str(len(text)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(text.encode())

    def hang_up(self, *, reset):
        self.close_connection = True
        self.wfile.flush()
        if not reset:
            self.connection.shutdown(socket.SHUT_RDWR)
            return
        # Linger 0: RST instead of FIN.
        self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.rfile.close()
        self.wfile.close()
        self.connection.close()

    def request_blocks(self):
        if "chunked" in self.headers.get("Transfer-Encoding", "").lower():
            while size := int(self.rfile.readline().split(b";")[0], 16):
                yield self.rfile.read(size)
                self.rfile.readline()
            self.rfile.readline()
        left = int(self.headers.get("Content-Length") or 0)
        while left > 0 and (block := self.rfile.read(min(left, BLOCK))):
            left -= len(block)
            yield block

    def serve(self):
        fault, where = self.proxy.pick(self.command, self.path)
        kind = fault.kind if fault else None
        blocks = self.request_blocks()
        if kind in ANSWERS:
            for _ in blocks:
                pass
            self.answer(*ANSWERS[kind])
            return
        if kind == "stall":
            time.sleep(fault.wait)
        up = http.client.HTTPConnection(*self.proxy.upstream, timeout=120)
        try:
            self.pass_on(up, blocks, fault, where)
            with up.getresponse() as response:
                if kind == "lost":
                    response.read()
                    self.hang_up(reset=True)
                else:
                    self.respond(response, fault, where)
        except (BrokenPipeError, ConnectionResetError):
            self.close_connection = True
        finally:
            up.close()

    def pass_on(self, up, blocks, fault, where):
        length = self.headers.get("Content-Length")
        chunked = length is None and "Transfer-Encoding" in self.headers
        # "100 Continue" was said by BaseHTTPRequestHandler already.
        expect = self.headers.get("Expect", "").lower() == "100-continue"
        up.putrequest(self.command, self.path, skip_host=True, skip_accept_encoding=True)
        for name, value in self.headers.items():
            if name.lower() not in HOP and not (expect and name.lower() == "expect"):
                up.putheader(name, value)
        if length is not None:
            up.putheader("Content-Length", length)
        elif chunked:
            up.putheader("Transfer-Encoding", "chunked")
        up.endheaders()
        flip = int(where * int(length or 0))
        is_up = self.command in ("PUT", "POST")
        for block in worked(blocks, fault, flip if is_up else None):
            up.send(b"%x\r\n%s\r\n" % (len(block), block) if chunked else block)
        if chunked:
            up.send(b"0\r\n\r\n")

    def respond(self, response, fault, where):
        kind = fault.kind if fault else None
        body = None
        length = int(response.getheader("Content-Length") or 0)
        has_body = self.command != "HEAD" and response.status not in (204, 304)
        if response.getheader("Content-Length") is None and has_body:
            body = response.read()
            length = len(body)
        cut = length
        if kind in ("reset", "truncate", "hang", "short"):
            cut = int(where * length)
        said = cut if kind == "short" else length
        self.send_response_only(response.status, response.reason)
        for name, value in response.getheaders():
            if name.lower() == "content-range" and kind == "shifted":
                value = re.sub(r"\d+", lambda found: str(int(found[0]) + 1), value)
            if name.lower() not in HOP:
                self.send_header(name, value)
        if response.status != 204:
            self.send_header("Content-Length", str(said))
        self.end_headers()
        if has_body:
            source = iter([body]) if body is not None else iter(lambda: response.read(BLOCK), b"")
            is_down = self.command == "GET"
            self.send_body(source, fault, cut, int(where * length) if is_down else None)

    def send_body(self, source, fault, cut, flip):
        for block in worked(source, fault, flip):
            self.wfile.write(block[:cut])
            cut -= len(block[:cut])
            if cut == 0 and fault and fault.kind in ("reset", "truncate", "hang"):
                if fault.kind == "hang":
                    self.wfile.flush()
                    time.sleep(fault.wait)
                self.hang_up(reset=fault.kind == "reset")
                return
            if cut == 0:
                for _ in source:  # the rest of a body that is said to be short
                    pass
                return

    do_GET = do_PUT = do_POST = do_DELETE = do_HEAD = serve  # noqa: N815  # names of http.server


def worked(blocks, fault, flip):
    """The blocks, slowed down or with one bit flipped as the fault says."""
    is_slow = fault is not None and fault.kind == "slow"
    is_flipped = fault is not None and fault.kind == "corrupt" and flip is not None
    position = 0
    for block in blocks:
        if is_flipped and position <= flip < position + len(block):
            changed = bytearray(block)
            changed[flip - position] ^= 1
            block = bytes(changed)
        position += len(block)
        step = max(1, fault.rate // 20) if is_slow else len(block)
        for first in range(0, len(block), step or 1):
            piece = block[first : first + step]
            if is_slow:
                time.sleep(len(piece) / fault.rate)
            yield piece
