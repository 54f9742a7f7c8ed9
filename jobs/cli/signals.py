"""Ctrl-C and SIGTERM: said once, and the process leaves in time."""

import json
import os
import signal
import sys
import threading
import time
from types import FrameType

from jobs.cli.kept import describe_interrupt
from jobs.exits import INTERRUPTED

# Ray, systemd and Kubernetes follow SIGTERM with SIGKILL; Ray waits 3 s only.
LEAVE_SECONDS = 2.5
IMPORTER = "<frozen importlib._bootstrap>"
# The verb has said how it ended: nothing is left but to go.
SAID = threading.Event()


def leave_in_time() -> None:
    """Bound the time between SIGTERM and the end of the process, whatever hangs meanwhile.

    A storage that does not answer, a lease that cannot be given back, a Ray that does not shut
    down: storage has all that is known, and a lease that falls silent is taken over. The main
    thread may be in the middle of a call that hears no signal, so another one waits for it.
    """
    reading, writing = os.pipe()
    os.set_blocking(writing, False)
    signal.set_wakeup_fd(writing, warn_on_full_buffer=False)
    threading.Thread(target=_watch, args=(reading,), name="leave in time", daemon=True).start()


def _watch(reading: int) -> None:
    while signal.SIGTERM not in os.read(reading, 64):
        pass
    time.sleep(LEAVE_SECONDS)
    if not SAID.is_set():
        _say_interrupted("stopped at once: something did not answer")
    os._exit(INTERRUPTED)


def interrupt(signum: int, frame: FrameType | None) -> None:
    """Handler of SIGINT and SIGTERM: raises KeyboardInterrupt, or leaves at once while importing.

    An exception in the middle of a library's start can end in its abort. Nothing is lost: what is
    kept is in storage, and a lease whose process is gone is free.
    """
    while frame is not None:
        if frame.f_code.co_filename == IMPORTER:
            _say_interrupted("stopped")
            os._exit(INTERRUPTED)
        frame = frame.f_back
    signal.default_int_handler(signum, None)


def _say_interrupted(what: str) -> None:
    """As `jobs.console.show` would: that may be what is being imported."""
    kept, hint = describe_interrupt(sys.argv[1:])
    message = f"{what}; {kept}"
    os.write(2, f"E-INTERRUPTED  {message}\nhint     {hint}\n".encode())
    if "--json" in sys.argv:
        said = {"error": "E-INTERRUPTED", "message": message, "hint": hint}
        os.write(1, json.dumps({**said, "exit_status": INTERRUPTED}).encode() + b"\n")
