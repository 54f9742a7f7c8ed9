"""What is looked at around Ray without Ray: addresses, and tokens."""

import contextlib
import os
import socket
import stat
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import urlsplit

from cluster.errors import RunnerError

CONNECT_SECONDS = 5.0
JOBS_ADDRESS_VARIABLES = ("RAY_API_SERVER_ADDRESS", "RAY_ADDRESS")
WEB_PORTS = {"http": 80, "https": 443}


@dataclass(frozen=True, slots=True)
class Token:
    """A token and where it was found. Its text appears in no message and no repr."""

    source: str
    text: str = field(repr=False)


def check_reachable(address: str) -> None:
    """Ray would try for minutes, deaf to signals, where nothing answers.

    Raises:
        RunnerError: nothing listens at host:port, or it is the address of a Jobs API. Other forms
            of addresses, such as `auto`, are left to Ray.
    """
    if address.partition("://")[0] in WEB_PORTS:
        raise RunnerError(
            f"{address} is the address of a Jobs API, where jobs are submitted; a driver joins a "
            "cluster at host:port; nothing was done",
            "metafuse submit sends the run there as a job",
        )
    host, _, port = address.removeprefix("ray://").rpartition(":")
    if host and port.isdigit():
        _connect(host, int(port), address)


def check_jobs_reachable(address: str) -> None:
    """Requests of Ray's client have no time limit where nothing answers.

    Raises:
        RunnerError: the address is not one of a Jobs API, or nothing listens there.
    """
    parts = urlsplit(address)
    if parts.scheme not in WEB_PORTS or not parts.hostname:
        raise RunnerError(
            f"{address} is not the address of a Jobs API; http://host:8265 was expected; nothing "
            "was done",
            "name the head's dashboard by --address or RAY_API_SERVER_ADDRESS",
        )
    _connect(parts.hostname, parts.port or WEB_PORTS[parts.scheme], address)


def find_jobs_address(
    address: str | None, environment: Mapping[str, str] = os.environ
) -> str | None:
    """Where the Jobs API is: as said, else as Ray's own variables say; None where nothing does."""
    found = address or next(
        (environment[name] for name in JOBS_ADDRESS_VARIABLES if environment.get(name)), None
    )
    return found.rstrip("/") if found else None


def find_token(
    environment: Mapping[str, str] = os.environ, home: Path | None = None
) -> Token | None:
    """The token that Ray would use, from where Ray looks for it; None where there is none.

    Raises:
        RunnerError: RAY_AUTH_TOKEN_PATH names a file that cannot be read.
    """
    if environment.get("RAY_AUTH_MODE", "").lower() == "disabled":
        return None
    if text := environment.get("RAY_AUTH_TOKEN", "").strip():
        return Token("RAY_AUTH_TOKEN", text)
    if named := environment.get("RAY_AUTH_TOKEN_PATH", ""):
        try:
            return Token(f"RAY_AUTH_TOKEN_PATH ({named})", Path(named).read_text().strip())
        except (OSError, UnicodeDecodeError) as error:
            reason = getattr(error, "strerror", None) or "not a text"
            raise RunnerError(
                f"RAY_AUTH_TOKEN_PATH names {named}, which cannot be read: {reason}; nothing was "
                "done",
                "put the cluster's token there, readable by you alone (mode 0600)",
            ) from None
    try:
        path = (home or Path.home()) / ".ray" / "auth_token"
        text = path.read_text().strip()
    except (OSError, UnicodeDecodeError, RuntimeError):  # the last one: there is no home
        return None
    return Token(str(path), text) if text else None


def close_token_file() -> None:
    """Close Ray's token file to all users but its owner; Ray makes it readable by all."""
    with contextlib.suppress(OSError, RuntimeError):  # not there, another's, or no home
        path = Path.home() / ".ray" / "auth_token"
        if stat.S_IMODE(path.stat().st_mode) & 0o077:
            path.chmod(0o600)


def _connect(host: str, port: int, address: str) -> None:
    try:
        socket.create_connection((host, port), CONNECT_SECONDS).close()
    except (OSError, OverflowError) as error:
        raise RunnerError(
            f"nothing answers at {address}: {error}; nothing was done",
            "check --address (host:port of the cluster's head) and the network",
        ) from None
