"""What is done to a run in the middle of its merge, and what it must look like afterwards."""

import time
from collections.abc import Callable
from dataclasses import dataclass

from tests.hosts.machines import Machines, until
from tests.hosts.stage import Run, check_promoted_once
from tests.support.publishing import read_promoted

RATE = "200mbit"
BUSY_BYTES = 200e6 / 8 / 8  # a second: an eighth of RATE, far more than acknowledgements take
AT_ONCE = 6  # units under way: two on each worker
LOOK_SECONDS = 0.1


@dataclass(frozen=True, slots=True)
class Scene:
    """A run whose merge is under way, and the digests that its model must have."""

    machines: Machines
    run: Run
    wanted: dict[str, str]
    record: Callable[[str, float], None]

    def disturb(self, what: str, fault: Callable[[], None]) -> float:
        """Let something happen; returns the seconds until the units then under way are done."""
        under_way = self.run.missing()[:AT_ONCE]
        began = time.monotonic()
        fault()
        self.run.wait_units(under_way, 180)
        seconds = max(self.run.seen[unit] for unit in under_way) - began
        self.record(what, seconds)
        return seconds

    def check(self) -> None:
        """Let the run end and check that its output shows no sign of the fault."""
        assert complete(self.run) == self.wanted

    def find_sending(self) -> str:
        """Wait until a host is in the middle of writing a unit; returns its name."""
        return self._find_busy(0, "a host writes")

    def find_receiving(self) -> str:
        """Wait until a host is in the middle of reading the candidates; returns its name."""
        return self._find_busy(1, "a host reads")

    def _find_busy(self, way: int, what: str) -> str:
        def look() -> str | None:
            assert self.run.missing(), f"{what}: the merge was over before"
            speeds = {host: self._speed(host)[way] for host in self.machines.workers}
            busiest = max(speeds, key=lambda host: speeds[host])
            return busiest if speeds[busiest] > BUSY_BYTES else None

        return until(look, 60, what, pause=0.0)

    def _speed(self, host: str) -> tuple[float, float]:
        before = self.machines.traffic(host)
        time.sleep(LOOK_SECONDS)
        after = self.machines.traffic(host)
        sent, received = ((b - a) / LOOK_SECONDS for a, b in zip(before, after, strict=True))
        return sent, received


def complete(run: Run) -> dict[str, str]:
    """Wait for the end of a run; returns the digests of what it promoted, once and cleanly."""
    run.wait_units(run.units, 180)
    run.machines.shape("off")
    assert run.wait_end() == 0, run.log()
    check_promoted_once(run)
    return read_promoted(run.output)
