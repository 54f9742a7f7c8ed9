"""One POST to a webhook: HTTPS to a host that is allowed and public, nothing followed.

The address is a secret, so no text from here holds more of it than its host. The name is resolved
once, every address behind it is looked at, and the connection goes to one of these: a name that
points elsewhere a moment later changes nothing.
"""

import http.client
import ipaddress
import socket
import ssl
import threading
import time
from collections.abc import Callable, Collection
from dataclasses import dataclass
from urllib.parse import urlsplit

from cluster.workers.patience import PATIENCE, Patience

TRIES = 2
PORTS = {"https": 443, "http": 80}
WRONG_ADDRESS = "its address is no URL such as https://hooks.slack.com/services/..."


@dataclass(frozen=True, slots=True)
class Endpoint:
    """Where a webhook is. `path` holds the secret: it is never shown."""

    scheme: str
    host: str
    port: int
    path: str

    @property
    def place(self) -> str:
        """Host, with the port where it is not the usual one: what may be shown and allowed."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return host if self.port == PORTS["https"] else f"{host}:{self.port}"


class RefusedError(Exception):
    """A message that must not be sent; `str()` names at most the host."""


def deliver(
    url: str,
    body: bytes,
    *,
    allowed: Collection[str],
    trusted: Collection[str],
    patience: Patience = PATIENCE,
) -> str:
    """Send a message; returns what went wrong, "" for nothing. Takes at most `hook_limit`.

    Args:
        url: URL of the webhook, secret.
        body: message as JSON.
        allowed: hosts, or host:port, that messages may go to if they are public.
        trusted: hosts, or host:port, that the operator of this machine trusts: these may be
            private, and those on this machine may do without TLS.
        patience: seconds for one answer, between two tries, and for all tries.
    """

    def send() -> str:
        try:
            target = parse_target(url, allowed=allowed, trusted=trusted)
            addresses = find_addresses(target, is_trusted=target.place in trusted)
        except RefusedError as error:
            return str(error)
        return _try(target, addresses, body, patience)

    return _limited(send, patience.hook_limit)


def examine(url: str, *, allowed: Collection[str], trusted: Collection[str]) -> str:
    """What would keep a message from being sent, "" for nothing; nothing is sent, see `deliver`."""

    def look() -> str:
        try:
            target = parse_target(url, allowed=allowed, trusted=trusted)
            find_addresses(target, is_trusted=target.place in trusted)
        except RefusedError as error:
            return str(error)
        return ""

    return _limited(look, PATIENCE.hook_limit)


def _limited(work: Callable[[], str], seconds: float) -> str:
    """What some work says, or that it took too long.

    In a thread, because neither the resolver nor a dripping answer keeps to a time limit.
    """
    said: list[str] = []
    thread = threading.Thread(target=lambda: said.append(work()), daemon=True)
    thread.start()
    thread.join(seconds)
    return said[0] if said else f"no answer within {seconds:.0f} s"


def _try(target: Endpoint, addresses: list[str], body: bytes, patience: Patience) -> str:
    problem = ""
    for number in range(TRIES):
        time.sleep(patience.hook_pause if number else 0)
        problem, is_final = _post(
            _Connection(target, addresses[number % len(addresses)], patience.hook_try), target, body
        )
        if is_final:
            break
    return problem


def parse_target(url: str, *, allowed: Collection[str], trusted: Collection[str]) -> Endpoint:
    """Take a webhook's URL apart.

    Raises:
        RefusedError: no https:// URL, or its host is not allowed.
    """
    try:
        parts = urlsplit(url.strip())
        scheme, host = parts.scheme, (parts.hostname or "").lower()
        port = parts.port or PORTS.get(scheme, 0)
    except ValueError:
        raise RefusedError(WRONG_ADDRESS) from None
    path = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
    is_plain = path.isascii() and path.isprintable() and " " not in path
    if not host or not port or not is_plain or parts.username is not None:
        raise RefusedError(WRONG_ADDRESS)
    target = Endpoint(scheme, host, port, path)
    if target.place not in allowed and target.place not in trusted:
        raise RefusedError(
            f"{target.place} is not an allowed host: notify.allow in the recipe or "
            "METAFUSE_NOTIFY_ALLOW in the environment names those that are"
        )
    if scheme != "https" and not (target.place in trusted and is_loopback(host)):
        raise RefusedError(f"{target.place}: only https:// is used")
    return target


def find_addresses(target: Endpoint, *, is_trusted: bool) -> list[str]:
    """Every address behind a host.

    Raises:
        RefusedError: the host has no address, or one that is not public while it is not trusted.
    """
    try:
        found = socket.getaddrinfo(target.host, target.port, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError):
        raise RefusedError(f"{target.place}: no such host") from None
    addresses = sorted({str(entry[4][0]) for entry in found})
    if not is_trusted and not all(is_public(address) for address in addresses):
        raise RefusedError(
            f"{target.place} has an address that is not public; nothing was sent. If that is "
            "meant, METAFUSE_NOTIFY_ALLOW has to name the host"
        )
    return addresses


def is_public(text: str) -> bool:
    """Whether an address is one of the open internet, also where it wraps an older one."""
    address = ipaddress.ip_address(text.partition("%")[0])
    if isinstance(address, ipaddress.IPv6Address):
        # NAT64 (64:ff9b::/96) ends in the IPv4 address that it leads to.
        is_nat64 = address in ipaddress.ip_network("64:ff9b::/96")
        wrapped = ipaddress.IPv4Address(int(address) & 0xFFFFFFFF) if is_nat64 else None
        inner = address.ipv4_mapped or address.sixtofour or wrapped
        if address.teredo is not None or (inner is not None and not is_public(str(inner))):
            return False
        if address.ipv4_mapped is not None:
            return True
    return address.is_global and not address.is_multicast and not address.is_reserved


def is_loopback(host: str) -> bool:
    """Whether a host is this machine, by name or address."""
    try:
        return host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


class _Connection(http.client.HTTPConnection):
    """A connection to an address that was looked at, under the name that was asked for."""

    def __init__(self, target: Endpoint, address: str, seconds: float) -> None:
        super().__init__(target.host, target.port, timeout=seconds)
        self.default_port = PORTS[target.scheme]
        self._address = address
        self._is_secure = target.scheme == "https"

    def connect(self) -> None:
        """Open the socket."""
        self.sock = socket.create_connection((self._address, self.port), self.timeout)
        if self._is_secure:
            context = ssl.create_default_context()
            self.sock = context.wrap_socket(self.sock, server_hostname=self.host)


def _post(connection: _Connection, target: Endpoint, body: bytes) -> tuple[str, bool]:
    """One try: what went wrong, "" for nothing, and whether another try is useless."""
    headers = {"Content-Type": "application/json", "User-Agent": "metafuse"}
    try:
        connection.request("POST", target.path, body=body, headers=headers)
        status = connection.getresponse().status
    except ssl.SSLCertVerificationError:
        return f"{target.place}: its certificate cannot be trusted", True
    except (OSError, http.client.HTTPException) as error:
        return f"{target.place}: {getattr(error, 'strerror', None) or type(error).__name__}", False
    finally:
        connection.close()
    if 200 <= status < 300:
        return "", True
    moved = ", which is not followed" if 300 <= status < 400 else ""
    return f"{target.place} answered {status}{moved}", status < 500 and status != 429
