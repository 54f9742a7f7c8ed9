"""Where the process starts: how it is interrupted, before and after the command line is loaded."""

import json
import os
import signal
import sys
from types import FrameType

INTERRUPTED = 130
IMPORTER = "<frozen importlib._bootstrap>"


def main() -> None:
    """`metafuse` and `python -m jobs`."""
    signal.signal(signal.SIGINT, lambda *_: os._exit(INTERRUPTED))
    from jobs.cli import main as call

    call(sys.argv[1:])


def interrupt(signum: int, frame: FrameType | None) -> None:
    """Handler of SIGINT and SIGTERM: raises KeyboardInterrupt, or leaves at once while importing.

    An exception in the middle of a library's start can end in its abort. Nothing is lost: what is
    kept is in storage, and a lease whose process is gone is free.
    """
    while frame is not None:
        if frame.f_code.co_filename == IMPORTER:
            _say_interrupted()
            os._exit(INTERRUPTED)
        frame = frame.f_back
    signal.default_int_handler(signum, None)


def _say_interrupted() -> None:
    """As `jobs.console` would: that may be what is being imported."""
    message, hint = "stopped; what was done is kept", "the same command continues"
    os.write(2, f"E-INTERRUPTED  {message}\nhint     {hint}\n".encode())
    if "--json" in sys.argv:
        said = {"error": "E-INTERRUPTED", "message": message, "hint": hint}
        os.write(1, json.dumps({**said, "exit_status": INTERRUPTED}).encode() + b"\n")
