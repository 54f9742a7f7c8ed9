"""Where the process starts: an interrupt before the command line is loaded ends it quietly."""

import os
import signal
import sys

INTERRUPTED = 130


def main() -> None:
    """`metafuse` and `python -m jobs`."""
    signal.signal(signal.SIGINT, lambda *_: os._exit(INTERRUPTED))
    from jobs.cli import main as call

    call(sys.argv[1:])
