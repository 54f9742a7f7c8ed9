"""A run in a process of its own that SIGKILLs itself at its n-th storage operation."""

import os
import signal
import subprocess
import sys
from contextlib import suppress
from pathlib import Path

from tests.support.waiting import LONG

ROOT = Path(__file__).parent.parent.parent
ARM = """
import sys
from tests.support.stopping import Stopper, stoppable
stopper = Stopper(int(sys.argv[1]), is_after=sys.argv[2] == "after", is_kill=True)
del sys.argv[1:3]
"""
# The whole run in one process: every operation of workers is counted too.
HERE = f"""{ARM}
from pathlib import Path
from tests.support.running import run_project
with stoppable(stopper):
    run_project(Path(sys.argv[1]), date=sys.argv[2])
"""
# The same, but it stops by SIGSTOP and goes on when it is woken; with the real exit status.
ASLEEP = """
import os, signal, sys
from pathlib import Path
from jobs.cli.group import finish
from tests.support.running import run_project
from tests.support.stopping import Stopper, stoppable
at, project, day = int(sys.argv[1]), Path(sys.argv[2]), sys.argv[3]
stopper = Stopper(at, sleep=lambda: os.kill(os.getpid(), signal.SIGSTOP))
with stoppable(stopper):
    finish(lambda: run_project(project, date=day).exit_status, as_json=False)
"""
# The command line with its Ray: operations of the driver are counted.
COMMAND = f"""{ARM}
from jobs.cli.main import main
with stoppable(stopper):
    main()
"""
PLAIN = "from jobs.cli.main import main; main()"


def kill_at(operation: int, when: str, script: str, *arguments: str) -> None:
    """Run a script that ends at an operation, and make sure that it was killed there."""
    code, out = _run(script, str(operation), when, *arguments)
    assert code == -signal.SIGKILL, out


def run_plainly(*arguments: str) -> str:
    """Run metafuse to its end; returns what it said."""
    code, out = _run(PLAIN, *arguments)
    assert code == 0, out
    return out


def _run(*arguments: str) -> tuple[int, str]:
    process = subprocess.Popen(
        [sys.executable, "-c", *arguments],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )
    try:
        code = process.wait(timeout=LONG)
    finally:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)  # what Ray left of it
        out, _ = process.communicate()
    return code, out
