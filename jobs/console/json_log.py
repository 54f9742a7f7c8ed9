"""METAFUSE_LOG=json: one JSON object a line on stderr, in the driver and in every worker.

A line says time, level, event, run, host and process, and what belongs to the event: a unit, bytes,
seconds. In a worker of Ray stderr is a file of Ray's logs, so each unit is found there as well.
Without the variable nothing is logged that was not before.
"""

import json
import logging
import os
import re
import socket
import sys
from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime

from jobs.console.secret_texts import mask
from jobs.errors import UsageError

VARIABLE = "METAFUSE_LOG"
ROOMS = ("jobs", "cluster")
PLAIN = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime", "taskName"}
# What libraries put into their messages: addresses with a password or a signature, keys of AWS.
SECRET = re.compile(
    r"(?<=://)[^/\s@\"']*@|(?<=\?)[^\s\"']*(?:ignature|oken|redential)[^\s\"']*|"
    r"\b(?:AKIA|ASIA)[A-Z0-9]{16}\b|(?<=Bearer )\S+"
)


@dataclass(frozen=True, slots=True)
class LogTo:
    """How this process logs; travels to workers with their orders.

    Attributes:
        run: name of the run with attempt; "" while it is not known.
        is_json: whether METAFUSE_LOG asks for JSON lines.
    """

    run: str = ""
    is_json: bool = False


SILENT = LogTo()


class JsonLines(logging.Handler):
    """Writes records to what stderr is at that moment."""

    def __init__(self, to: LogTo) -> None:
        super().__init__(logging.INFO)
        self.to = to

    def emit(self, record: logging.LogRecord) -> None:
        """One line; a stderr that is gone must not fail the run."""
        try:
            sys.stderr.write(format_line(record, self.to.run) + "\n")
            sys.stderr.flush()
        except (OSError, ValueError):
            return


def read_log(environment: Mapping[str, str] = os.environ) -> LogTo:
    """How the user wants it.

    Raises:
        UsageError: METAFUSE_LOG is set to something else than json.
    """
    wanted = environment.get(VARIABLE, "")
    if wanted not in ("", "json"):
        raise UsageError(f"{VARIABLE}={wanted!r}: json is what there is; nothing was done")
    return LogTo(is_json=wanted == "json")


def current_log() -> LogTo:
    """How this process logs now."""
    found = _find_handler(logging.getLogger(ROOMS[0]))
    return found.to if found is not None else SILENT


def open_log(to: LogTo) -> None:
    """From here on log like this. Safe to repeat; the run of the last call counts."""
    for room in ROOMS:
        logger = logging.getLogger(room)
        handler = _find_handler(logger)
        if handler is not None and to.is_json:
            handler.to = to
        elif handler is not None:
            logger.removeHandler(handler)
            logger.setLevel(logging.NOTSET)
            logger.propagate = True
        elif to.is_json:
            logger.addHandler(JsonLines(to))
            logger.setLevel(logging.INFO)
            logger.propagate = False


def name_run(run: str) -> None:
    """Lines from here on are of this run."""
    open_log(replace(current_log(), run=run))


def format_line(record: logging.LogRecord, run: str) -> str:
    """ASCII without control characters; secrets that messages may carry are "***"."""
    fields = {
        "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
        "level": record.levelname.lower(),
        "event": record.getMessage(),
        "run": run,
        "host": socket.gethostname(),
        "process": record.process,
        "logger": record.name,
    }
    if record.exc_info and record.exc_info[0]:
        fields["error"] = record.exc_info[0].__name__
    fields |= {key: value for key, value in vars(record).items() if key not in PLAIN}
    cleaned = {key: _without_secrets(value) for key, value in fields.items()}
    return json.dumps(cleaned, default=str).replace("\x7f", "\\u007f")


def _without_secrets(value: object) -> object:
    return SECRET.sub("***", mask(value)) if isinstance(value, str) else value


def _find_handler(logger: logging.Logger) -> JsonLines | None:
    return next((h for h in logger.handlers if isinstance(h, JsonLines)), None)
