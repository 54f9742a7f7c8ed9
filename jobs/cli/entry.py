"""Where the process starts: how it is interrupted, before and after the command line is loaded."""

import os
import signal
import sys

from jobs.cli.signals import leave_in_time
from jobs.exits import INTERRUPTED


def main() -> None:
    """`metafuse` and `python -m jobs`."""
    signal.signal(signal.SIGINT, lambda *_: os._exit(INTERRUPTED))
    leave_in_time()
    from jobs.cli.main import main as call

    call(sys.argv[1:])
