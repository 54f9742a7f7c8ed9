"""Whole processes side by side: wall and CPU seconds, peak resident memory of the process tree."""

import os
import statistics
import subprocess
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

SAMPLE_SECONDS = 0.02


@dataclass(frozen=True, slots=True)
class Figures:
    """What one process took. `cpu_seconds` is of the process and the children it waited for."""

    wall_seconds: float
    cpu_seconds: float
    peak_mib: float


@dataclass(frozen=True, slots=True)
class Contender:
    """One line of a table: a command, and what to do before each round."""

    name: str
    command: Sequence[str]
    before: Callable[[], None]
    environment: Mapping[str, str] | None = None


def run(contender: Contender) -> Figures:
    """Run a command to its end.

    Raises:
        RuntimeError: it failed; with what it said.
    """
    contender.before()
    environment = {**os.environ, **(contender.environment or {})}
    started = time.perf_counter()
    process = subprocess.Popen(
        list(contender.command), stdout=subprocess.PIPE, stderr=subprocess.STDOUT, env=environment
    )
    tree = TreeMemory(process.pid)
    assert process.stdout is not None
    said = process.stdout.read()
    _, status, used = os.wait4(process.pid, 0)
    wall = time.perf_counter() - started
    process.returncode = os.waitstatus_to_exitcode(status)
    peak = max(tree.stop(), used.ru_maxrss / 1024)
    if process.returncode != 0:
        raise RuntimeError(f"{contender.name}: exit {process.returncode}\n{said.decode()[-2000:]}")
    return Figures(wall, used.ru_utime + used.ru_stime, peak)


def alternate(contenders: Sequence[Contender], rounds: int) -> dict[str, list[Figures]]:
    """All contenders in turns; the first round only warms caches and is thrown away."""
    table: dict[str, list[Figures]] = {contender.name: [] for contender in contenders}
    for number in range(rounds + 1):
        for contender in contenders:
            figures = run(contender)
            print(f"round {number}  {contender.name:40} {figures.wall_seconds:6.2f} s", flush=True)
            if number:
                table[contender.name].append(figures)
    return table


def medians(rows: Sequence[Figures]) -> Figures:
    """The median of each column."""
    return Figures(
        statistics.median(row.wall_seconds for row in rows),
        statistics.median(row.cpu_seconds for row in rows),
        statistics.median(row.peak_mib for row in rows),
    )


class TreeMemory:
    """Samples the resident memory of a process and its descendants until `stop`."""

    def __init__(self, pid: int) -> None:
        self._pid = pid
        self._peak = 0.0
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._sample, daemon=True)
        self._thread.start()

    def stop(self) -> float:
        """The largest sum seen, in MiB."""
        self._stopped.set()
        self._thread.join()
        return self._peak

    def _sample(self) -> None:
        while not self._stopped.wait(SAMPLE_SECONDS):
            total = sum(resident_mib(pid) for pid in descendants(self._pid))
            self._peak = max(self._peak, total)


def descendants(pid: int) -> list[int]:
    """A process and all below it, as far as they live."""
    found = [pid]
    for parent in found:
        for task in Path(f"/proc/{parent}/task").glob("*/children"):
            try:
                found += map(int, task.read_text().split())
            except OSError:
                continue
    return found


def resident_mib(pid: int) -> float:
    """Resident memory of one process, 0 if it is gone."""
    try:
        fields = Path(f"/proc/{pid}/statm").read_text().split()
    except OSError:
        return 0.0
    return int(fields[1]) * os.sysconf("SC_PAGE_SIZE") / 2**20
