"""Where the process starts: how it is interrupted, before and after the command line is loaded."""

import importlib
import io
import os
import signal
import sys
from pathlib import Path

from jobs.cli.signals import leave_in_time
from jobs.exits import INTERRUPTED


def main() -> None:
    """`metafuse` and `python -m jobs`."""
    _stand_first()
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):  # a terminal may not know every letter of a name
            stream.reconfigure(errors="backslashreplace")
    signal.signal(signal.SIGINT, lambda *_: os._exit(INTERRUPTED))
    leave_in_time()
    from jobs.cli.main import main as call

    call(sys.argv[1:])


def _stand_first() -> None:
    """Import what lies beside this package, whatever is called so in a folder before it."""
    root = str(Path(__file__).parents[2])
    sys.path.insert(0, root)
    for name in ("fusion", "cluster"):
        importlib.import_module(name)
    sys.path.remove(root)
