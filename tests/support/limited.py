"""metafuse in a process of its own that may not use more memory than it is told."""

import json
import subprocess
import sys
from dataclasses import dataclass

# A thread's stack counts against the limit as it is reserved, not as it is used.
STACK_BYTES = 1 << 20
UNLIMITED = 1 << 40

STATUS = """
def told(name):
    with open("/proc/self/status") as status:
        return next(int(line.split()[1]) << 10 for line in status if line.startswith(name + ":"))
"""
LIMIT = """
import os, resource, sys
stack, data = int(sys.argv[1]), int(sys.argv[2])
resource.setrlimit(resource.RLIMIT_STACK, (stack, resource.getrlimit(resource.RLIMIT_STACK)[1]))
resource.setrlimit(resource.RLIMIT_DATA, (data, data))
os.execv(sys.executable, [sys.executable, "-c", *sys.argv[3:]])
"""
COMMAND = f"""{STATUS}
import atexit, sys
atexit.register(lambda: print("PEAK", told("VmHWM"), file=sys.stderr))
sys.argv[0] = "metafuse"
from jobs.cli.main import main
main()
"""
IMPORT = f"""{STATUS}
import sys
__import__(sys.argv[1], fromlist=["all of it"])
print(told("VmHWM"), told("VmData"))
"""


@dataclass(frozen=True, slots=True)
class Measured:
    """What a command said with --json, and its largest resident memory."""

    answer: dict[str, object]
    peak_bytes: int


def run_limited(*arguments: str, data_bytes: int) -> Measured:
    """Run a metafuse command whose private memory is limited by the system.

    RLIMIT_DATA covers the heap, private mappings and stacks, whether touched or not. Files that are
    mapped and the page cache are not in it.
    """
    done = _run(data_bytes, COMMAND, *arguments, "--json")
    assert done.returncode == 0, done.stdout + done.stderr
    return Measured(json.loads(done.stdout), int(done.stderr.rpartition("PEAK")[2]))


def measure_import(module: str) -> tuple[int, int]:
    """Largest resident and reserved private memory of a process that only imports a module."""
    resident, reserved = map(int, _run(UNLIMITED, IMPORT, module).stdout.split())
    return resident, reserved


def _run(data_bytes: int, *arguments: str):
    command = [sys.executable, "-c", LIMIT, str(STACK_BYTES), str(data_bytes), *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=False)
