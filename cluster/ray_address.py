"""What is looked at around Ray without Ray: an address, and the file of its token."""

import socket
import stat
from pathlib import Path

from cluster.errors import RunnerError

CONNECT_SECONDS = 5.0


def check_reachable(address: str) -> None:
    """Ray would try for minutes, deaf to signals, where nothing answers.

    Raises:
        RunnerError: nothing listens at host:port. Other forms of addresses are left to Ray.
    """
    host, _, port = address.removeprefix("ray://").rpartition(":")
    if not host or not port.isdigit():
        return
    try:
        socket.create_connection((host, int(port)), CONNECT_SECONDS).close()
    except (OSError, OverflowError) as error:
        raise RunnerError(
            f"nothing answers at {address}: {error}; nothing was done",
            "check --address (host:port of the cluster's head) and the network",
        ) from None


def close_token_file() -> None:
    """Ray makes its token readable by everybody; only its owner needs it."""
    path = Path.home() / ".ray" / "auth_token"
    if path.exists() and stat.S_IMODE(path.stat().st_mode) & 0o077:
        path.chmod(0o600)
