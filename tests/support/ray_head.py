"""A Ray head of its own for a test: own ports, own folder, own token; ended by its processes."""

import os
import random
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import psutil

from tests.support.waiting import wait_until

ROOT = Path(__file__).parent.parent.parent
# Ray hands 10002 to 19999 to its workers.
PORTS = range(20100, 30000)


@dataclass
class Head:
    """A running head. `environment` is what a client needs besides the address."""

    address: str
    gcs: str
    token_path: Path
    environment: dict[str, str]
    process: subprocess.Popen


def free_ports(count: int) -> list[int]:
    found: list[int] = []
    while len(found) < count:
        port = random.choice(PORTS)  # Ray's tests choose like this too
        with socket.socket() as probe, suppress(OSError):
            probe.bind(("", port))
            if port not in found:
                found.append(port)
    return found


@contextmanager
def ray_head(folder: Path, *, with_token: bool = True, num_cpus: int = 2, env=None, ports=None):
    """Start a head and wait until its Jobs API answers."""
    token_path = folder / "token"
    if not token_path.exists():
        token_path.touch(0o600)
        token_path.write_text(secrets.token_hex(32))
    given = {k: v for k, v in os.environ.items() if not k.startswith("RAY_")}
    auth = {"RAY_AUTH_MODE": "disabled"}
    if with_token:
        auth = {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN_PATH": str(token_path)}
    home = folder / "home"
    home.mkdir(exist_ok=True)
    given |= {"HOME": str(home), "RAY_USAGE_STATS_ENABLED": "0", **auth, **(env or {})}
    binaries = Path(sys.executable).parent
    given["PATH"] = f"{binaries}:{given['PATH']}"
    given.pop("PYTHONPATH", None)
    place = tempfile.mkdtemp(prefix="mf-", dir="/tmp")  # socket paths must stay short
    ports = ports or free_ports(3)
    log = (folder / "head.log").open("ab")
    process = subprocess.Popen(
        [
            binaries / "ray", "start", "--head", "--block", f"--port={ports[0]}",
            f"--dashboard-port={ports[1]}", "--dashboard-host=127.0.0.1",
            f"--ray-client-server-port={ports[2]}", "--dashboard-agent-listen-port=0",
            f"--temp-dir={place}", f"--num-cpus={num_cpus}",
            "--object-store-memory=100000000", "--disable-usage-stats",
        ],
        env=given, cwd=folder, start_new_session=True,
        stdout=log, stderr=subprocess.STDOUT,
    )  # fmt: skip
    log.close()
    address = f"http://127.0.0.1:{ports[1]}"
    client = {"RAY_AUTH_TOKEN_PATH": str(token_path)} if with_token else {}
    head = Head(address, f"127.0.0.1:{ports[0]}", token_path, client, process)
    try:
        wait_until(lambda: answers(ports[1]) or process.poll() is not None)
        assert process.poll() is None, (folder / "head.log").read_text()
        yield head
    finally:
        end(process)
        shutil.rmtree(place, ignore_errors=True)


@contextmanager
def ray_worker(head: Head, folder: Path, *, num_cpus: int = 1, env=None):
    """A second node of the head's cluster on this machine, with an environment of its own."""
    given = {k: v for k, v in os.environ.items() if not k.startswith("RAY_")}
    auth = {"RAY_AUTH_MODE": "token" if head.environment else "disabled", **head.environment}
    binaries = Path(sys.executable).parent
    given |= {"HOME": str(folder), "PATH": f"{binaries}:{given['PATH']}", **auth, **(env or {})}
    given.pop("PYTHONPATH", None)
    log = (folder / "worker.log").open("ab")
    process = subprocess.Popen(
        [binaries / "ray", "start", "--block", f"--address={head.gcs}", f"--num-cpus={num_cpus}",
         "--object-store-memory=100000000", "--dashboard-agent-listen-port=0",
         "--disable-usage-stats"],
        env=given, cwd=folder, start_new_session=True, stdout=log, stderr=subprocess.STDOUT,
    )  # fmt: skip
    log.close()
    try:
        yield process
    finally:
        end(process)


def answers(port: int) -> bool:
    import requests

    try:
        return requests.get(f"http://127.0.0.1:{port}/api/version", timeout=10).status_code < 500
    except requests.RequestException:
        return False


def end(process: subprocess.Popen, how: int = signal.SIGTERM) -> None:
    """End a head and all that it started, by their ids."""
    try:
        family = psutil.Process(process.pid).children(recursive=True)
    except psutil.NoSuchProcess:
        family = []
    process.send_signal(how)
    with suppress(subprocess.TimeoutExpired):
        process.wait(30)
    for member in family:
        with suppress(psutil.NoSuchProcess):
            member.kill()
    if process.poll() is None:
        process.kill()
        process.wait()
    psutil.wait_procs(family, timeout=5)


def metafuse(*arguments, env=None, home=None) -> subprocess.CompletedProcess:
    """Our command line in a process of its own."""
    return subprocess.run(**_call(arguments, env, home), text=True, capture_output=True)


def start_metafuse(*arguments, env=None, home=None) -> subprocess.Popen:
    return subprocess.Popen(
        **_call(arguments, env, home), text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )


def _call(arguments, env, home) -> dict:
    given = {k: v for k, v in os.environ.items() if not k.startswith("RAY_")}
    given |= {"PYTHONPATH": str(ROOT), **(env or {})}
    if home is not None:
        given["HOME"] = str(home)
    return {"args": [sys.executable, "-m", "jobs", *map(str, arguments)], "env": given}
