"""Where an embedded Ray keeps its files and its token: short paths that can be written."""

import os
import secrets
import tempfile
from collections.abc import Mapping, MutableMapping
from pathlib import Path

from cluster.errors import RunnerError
from cluster.ray.address import find_token

# A socket's path has 107 bytes at most, of which Ray's own names below its folder take this many:
# /session_2026-11-24_03-30-00_123456_4194304/sockets/plasma_store.12
NAMES_BYTES = 68
SOCKET_BYTES = 107
SHORT = ("/tmp", "/var/tmp", "/dev/shm")  # noqa: S108  # Ray makes folders of its own in there
TOKEN_BYTES = 32


def find_ray_folder(environment: Mapping[str, str] = os.environ) -> str:
    """The folder for Ray's files: where the environment says, else where it fits.

    Raises:
        RunnerError: no folder can be written whose path is short enough.
    """
    named = [environment[name] for name in ("RAY_TMPDIR", "TMPDIR") if environment.get(name)]
    for root in (*named[:1], *SHORT):
        for folder in (f"{root}/ray", f"{root}/ray-{os.getuid()}"):
            if len(os.fsencode(folder)) + NAMES_BYTES <= SOCKET_BYTES and _can_write(Path(folder)):
                return folder
    raise RunnerError(
        f"no folder for Ray's files: {', '.join((*named[:1], *SHORT))} cannot be written, or their "
        f"paths are longer than {SOCKET_BYTES - NAMES_BYTES - len('/ray')} bytes, which sockets "
        "need. Nothing was started",
        "set RAY_TMPDIR to a short folder of your own on this machine",
    )


def make_token(environment: MutableMapping[str, str] = os.environ) -> None:
    """Give Ray a token for this process alone where it could not keep one in the home folder."""
    if environment.get("RAY_AUTH_MODE", "").lower() == "disabled":
        return
    try:
        home = Path.home()
    except RuntimeError:  # HOME is not set, and the user is unknown to the system
        home = Path("/")
    if find_token(environment, home) is None and (
        home == Path("/") or not _can_write(home / ".ray")
    ):
        environment["RAY_AUTH_TOKEN"] = secrets.token_hex(TOKEN_BYTES)


def _can_write(folder: Path) -> bool:
    """Whether files can be made in a folder, which is made itself where it is missing."""
    try:
        folder.mkdir(exist_ok=True)
        tempfile.TemporaryFile(dir=folder).close()
    except OSError:
        return False
    return True
