"""A night as a child process: `metafuse run` on this machine, or `metafuse submit` to a cluster."""

import json
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

ASK_SECONDS = 120.0


@dataclass(frozen=True, slots=True)
class Launch:
    """How nights are started: `address` is "" (here), of a Jobs API (http), or of a Ray cluster."""

    recipe: Path
    name: str
    address: str = ""

    @property
    def is_submitted(self) -> bool:
        """Whether nights are jobs of a cluster, which go on when their child ends."""
        return self.address.startswith(("http://", "https://"))

    def command(self, date: str) -> list[str]:
        """The command line of a night."""
        verb = ["submit"] if self.is_submitted else ["run", "--unattended"]
        where = ["--address", self.address] if self.address else []
        return [*METAFUSE, *verb, str(self.recipe), "--date", date, *where]


# -P: a folder called jobs in the working directory is not ours.
METAFUSE = (sys.executable, "-P", "-m", "jobs")


class NightProcess:
    """A night at work as a process of its own; what it prints goes to our stderr."""

    def __init__(self, launch: Launch, date: str) -> None:
        self._launch = launch
        self._date = date
        self._is_stopped = False
        # A session of its own: Ctrl-C reaches the scheduler alone, which then ends the night.
        self._process = subprocess.Popen(  # noqa: S603  # our own command line
            launch.command(date),
            stdin=subprocess.DEVNULL,
            stdout=sys.stderr.fileno(),
            start_new_session=True,
        )

    def poll(self) -> int | None:
        """Its exit status; None while it runs."""
        return self._process.poll()

    def stop(self, *, is_cancelled: bool) -> None:
        """SIGTERM, once. A job of a cluster goes on without us, unless the night is cancelled."""
        if self._is_stopped:
            return
        self._is_stopped = True
        if is_cancelled and self._launch.is_submitted:
            self._stop_jobs()
        self._process.terminate()

    def kill(self) -> None:
        """SIGKILL: the run's lease is then found to be free."""
        self._process.kill()

    def _stop_jobs(self) -> None:
        """End the jobs of this night. Where that fails the lease and high water keep order."""
        listed = self._ask("status", "--json")
        try:
            jobs = json.loads(listed)["jobs"]
        except (ValueError, KeyError, TypeError):
            return
        for job in jobs:
            stem = f"{self._launch.name}-{self._date}-s"
            is_open = job["status"] in ("PENDING", "RUNNING")
            if is_open and job["submission_id"].startswith(stem):
                self._ask("stop", job["submission_id"], "--reason", "a later night is due")

    def _ask(self, *words: str) -> str:
        try:
            done = subprocess.run(  # noqa: S603  # our own command line
                [*METAFUSE, *words, "--address", self._launch.address],
                capture_output=True, text=True, timeout=ASK_SECONDS, check=False,
            )  # fmt: skip
        except subprocess.TimeoutExpired:
            return ""
        return done.stdout
