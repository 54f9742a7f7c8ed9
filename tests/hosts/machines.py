"""Several hosts on this machine: a Ray cluster in namespaces, and an S3 server beside it."""

import ctypes
import json
import os
import re
import subprocess
import sys
import time
import urllib.request
from contextlib import contextmanager, suppress
from pathlib import Path

from tests.support.servers import PORTS_OF_SEAWEEDFS, free_ports

ROOT = Path(__file__).parent.parent.parent
SCRIPT = Path(__file__).parent / "netns_ray_cluster.sh"
STORAGE_SCRIPT = ROOT / "tests" / "servers" / "start-seaweedfs.sh"
NETWORK = "10.77.0"
HEAD = f"{NETWORK}.10"
JOBS_ADDRESS = f"http://{HEAD}:8265"
RAY_ADDRESS = f"{HEAD}:6379"
STORAGE_ADDRESS = f"{NETWORK}.200"
CLONE_NEWNET = 0x40000000
SETTINGS = {
    # What examples/deploy asks of every node: a peer that went silent is noticed.
    "RAY_grpc_client_keepalive_time_ms": "10000",
    "RAY_grpc_client_keepalive_timeout_ms": "10000",
    "OMP_NUM_THREADS": "1",
}


def enter_network(name: str) -> None:
    """Let this thread, and what it starts from now on, live in a network namespace."""
    with Path(f"/run/netns/{name}").open() as namespace:
        library = ctypes.CDLL(None, use_errno=True)
        if library.setns(namespace.fileno(), CLONE_NEWNET) != 0:
            raise OSError(ctypes.get_errno(), f"cannot enter network {name}")


@contextmanager
def inside_network(name: str):
    """As `enter_network`, and back again."""
    with Path("/proc/thread-self/ns/net").open() as before:
        enter_network(name)
        try:
            yield
        finally:
            ctypes.CDLL(None).setns(before.fileno(), CLONE_NEWNET)


class Machines:
    """The hosts h0 (head), h1, h2 ... and `storage`, from `start` to `stop`."""

    def __init__(self, folder: Path, *, num_workers: int) -> None:
        self.folder = folder
        self.workers = [f"h{i + 1}" for i in range(num_workers)]
        self.tag = f"metafuse{os.getpid()}"
        self.token = folder / "ray" / "token"
        self._storage_settings = {
            "WEED": str(Path(sys.executable).parent / "weed"),
            "S3_DIR": str(folder / "weed"),
            "S3_HOST": STORAGE_ADDRESS,
            "S3_PORT": str(free_ports(PORTS_OF_SEAWEEDFS)),
            "S3_BUCKET": "plain",
            "S3_VERSIONED_BUCKET": "versioned",
        }
        self.storage: dict[str, str] = {}
        self._spoiled: set[str] = set()

    @property
    def hub(self) -> str:
        """The network of a machine beside the cluster."""
        return f"{self.tag}-hub"

    @property
    def environment(self) -> dict[str, str]:
        """Of the hosts: where metafuse and the storage are."""
        return {
            **os.environ,
            **SETTINGS,
            **self.storage,
            "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
            "PYTHONPATH": str(ROOT),
            "RAYNS": str(self.folder / "ray"),
            "RAYNS_TAG": self.tag,
            "RAYNS_NET": NETWORK,
            "RAYNS_CPUS": "1",
            "RAYNS_MEM": str(3 << 30),
        }

    @property
    def outside(self) -> dict[str, str]:
        """Of a machine beside the cluster: the token, and no right to the storage."""
        own = {k: v for k, v in os.environ.items() if not k.startswith(("AWS_", "RAY_"))}
        return {
            **own,
            "PYTHONPATH": str(ROOT),
            "HOME": str(self.folder / "home"),
            "RAY_AUTH_TOKEN_PATH": str(self.token),
        }

    def start(self) -> None:
        self.script("net", str(1 + len(self.workers)))
        self.storage = self._at_storage("start")
        self.script("boot")

    def stop(self) -> None:
        self.script("down")

    def script(self, *arguments: str) -> str:
        done = subprocess.run(
            [SCRIPT, *arguments],
            env=self.environment,
            cwd=ROOT,
            capture_output=True,
            text=True,
            check=False,
            timeout=120,
        )
        assert done.returncode == 0, f"{arguments}: {done.stdout}{done.stderr}"
        return done.stdout

    def command(self, host: str, *arguments: str) -> list[str]:
        """What to start to have a command of this Python run on a host."""
        return [str(SCRIPT), "exec", host, sys.executable, *arguments]

    def restart_storage(self) -> None:
        """Power loss of the S3 server, and its start on the same data."""
        self._at_storage("restart")

    def _at_storage(self, verb: str) -> dict[str, str]:
        settings = {**self.environment, **self._storage_settings}
        for name in self.storage:
            del settings[name]
        done = subprocess.run(
            [SCRIPT, "storage", STORAGE_SCRIPT, verb],
            env=settings,
            cwd=ROOT,
            capture_output=True,
            text=True,
            check=False,
            timeout=120,
        )
        assert done.returncode == 0, done.stderr
        return dict(re.findall(r"(AWS_\w+)=(\S+)", done.stdout))

    def shape(self, rate: str, hosts: list[str] | None = None) -> None:
        """Give the cables of hosts a rate, such as 100mbit, or "off"."""
        for host in hosts or self.workers:
            self.script("rate", host, rate)

    def processes(self, host: str) -> dict[int, str]:
        """Command lines of the processes on a host, by pid as seen from outside."""
        network = Path(f"/run/netns/{self.tag}-{host}").stat().st_ino
        found = {}
        for place in Path("/proc").glob("[0-9]*"):
            with suppress(OSError):
                if (place / "ns" / "net").stat().st_ino == network:
                    line = (place / "cmdline").read_bytes().replace(b"\0", b" ").decode()
                    found[int(place.name)] = line.strip()
        return found

    def find_driver(self) -> int | None:
        """The process of the driver on the head."""
        found = (pid for pid, line in self.processes("h0").items() if " -m jobs run " in line)
        return next(found, None)

    def traffic(self, host: str) -> tuple[int, int]:
        """Bytes that a host has sent and received so far, headers included."""
        for line in Path("/proc/thread-self/net/dev").read_text().splitlines():
            name, _, counters = line.partition(":")
            if name.strip() == f"p{host.removeprefix('h')}":
                numbers = counters.split()
                return int(numbers[0]), int(numbers[8])
        raise AssertionError(f"no cable of {host}")

    def alive(self) -> set[str]:
        """Hosts that the head believes to be alive."""
        summary = self._ask("/nodes?view=summary")["data"]["summary"]
        return {n["hostname"] for n in summary if n["raylet"].get("state", "") == "ALIVE"}

    def jobs(self) -> set[str]:
        """Submission ids that the head knows."""
        return {job["submission_id"] for job in self._ask("/api/jobs/")}

    def _ask(self, path: str):
        headers = {"Authorization": f"Bearer {self.token.read_text()}"}
        request = urllib.request.Request(JOBS_ADDRESS + path, headers=headers)
        with urllib.request.urlopen(request, timeout=10) as answer:
            return json.load(answer)

    def hurt(self, verb: str, host: str, *more: str) -> None:
        """A fault of the script, such as kill-raylet; `mend` makes up for it."""
        self._spoiled.add(host)
        self.script(verb, host, *more)

    def mend(self) -> None:
        """All cables whole and unshaped, all hosts up and known to the head."""
        self.shape("off")
        for host in sorted(self._spoiled):
            self.script("heal", host)
        # The head takes a host that was silent for dead, and that host's Ray then ends itself.
        self.reboot(*(["h0", *self.workers] if "h0" in self._spoiled else sorted(self._spoiled)))
        self._spoiled.clear()
        until(lambda: self.alive() >= {"h0", *self.workers}, 60, "all hosts are up")

    def reboot(self, *hosts: str) -> None:
        """Power off what is still on, then start."""
        for host in hosts:
            with suppress(AssertionError):
                self.script("kill-host", host)
        for host in hosts:
            self.script("start", host)


def until(condition, seconds: float, what: str, *, pause: float = 0.1):
    """Wait for a condition; returns what it returned."""
    end = time.monotonic() + seconds
    while not (found := condition()):
        assert time.monotonic() < end, f"{what}: not within {seconds} s"
        time.sleep(pause)
    return found
