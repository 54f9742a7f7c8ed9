import os
import shutil
import signal
from pathlib import Path

import pytest

from tests.hosts.faults import AT_ONCE, RATE, Scene, complete
from tests.hosts.machines import Machines, inside_network
from tests.hosts.stage import Run, upload_inputs

NUM_WORKERS = 3
NUM_UNITS = 9
RECOVERIES: list[tuple[str, float]] = []
TABLE = f"""\
A merge of {NUM_UNITS} units of 64 MiB over {NUM_WORKERS} hosts with cables of {RATE}, up to
{AT_ONCE} units under way. Seconds from the fault until all units that were then under way are
recorded: the time to compute them is included, and where something was restarted and submitted
again, that too. Every run then ended with the bytes of an undisturbed one, promoted once, nothing
left behind.

| fault | seconds |
| --- | ---: |
"""


@pytest.fixture(scope="session")
def machines():
    """A head, three workers and an S3 server; this process is a machine beside them."""
    # Hosts have a /tmp of their own.
    folder = Path("/var/tmp") / f"metafuse-hosts-{os.getpid()}"
    folder.mkdir(mode=0o700)
    machines = Machines(folder, num_workers=NUM_WORKERS)
    # A terminated test run takes its hosts along.
    before = signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        machines.start()
        with pytest.MonkeyPatch.context() as patch, inside_network(machines.hub):
            for name, value in machines.storage.items():
                patch.setenv(name, value)
            upload_inputs(folder, num_units=NUM_UNITS)
            yield machines
    finally:
        machines.stop()
        shutil.rmtree(folder)
        signal.signal(signal.SIGTERM, before)


@pytest.fixture(scope="session")
def whole(machines):
    """A run to which nothing happened, and the digests of what it promoted."""
    run = Run(machines, machines.folder, "nightly", num_units=NUM_UNITS)
    run.start()
    run.wait_planned()
    machines.shape(RATE)
    wanted = complete(run)
    run.first_log = run.log()
    yield run, wanted
    run.stop()


@pytest.fixture
def scene(machines, whole, record_property):
    """The same run with its merge under way on slow cables, and a unit done."""
    run, wanted = whole

    def record(what, seconds):
        record_property(what, round(seconds, 1))
        RECOVERIES.append((what, seconds))

    run.rewind()
    run.start()
    run.wait_planned()
    machines.shape(RATE)
    run.wait_first_unit()
    try:
        yield Scene(machines, run, wanted, record)
    finally:
        run.stop()
        machines.mend()


def pytest_addoption(parser):
    parser.addoption("--recovery", type=Path, help="file for the table of recoveries")


def pytest_terminal_summary(terminalreporter, config):
    if not RECOVERIES:
        return
    terminalreporter.section("seconds from the fault until all that was under way is done")
    for what, seconds in RECOVERIES:
        terminalreporter.write_line(f"{seconds:6.1f}  {what}")
    path = config.getoption("--recovery")
    if path is not None:
        rows = "".join(f"| {what} | {seconds:.1f} |\n" for what, seconds in RECOVERIES)
        path.write_text(TABLE + rows)
