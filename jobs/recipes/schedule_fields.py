"""What may stand in a recipe's schedule: five cron fields, and a time zone that exists."""

import re
import zoneinfo
from datetime import UTC, datetime

from cronsim import CronSim, CronSimError

from fusion.nearest import ask_meant

# Name, and what is possible.
FIELDS: tuple[tuple[str, str], ...] = (
    ("minute", "0 to 59"),
    ("hour", "0 to 23"),
    ("day of month", "1 to 31"),
    ("month", "1 to 12 or jan to dec"),
    ("day of week", "0 to 7 or sun to sat"),
)
# What cron, Kubernetes and systemd all have; cronsim alone would take L, LW and # too.
PART = re.compile(r"(?:\*|[0-9]+|[A-Za-z]{3})(?:-(?:[0-9]+|[A-Za-z]{3}))?(?:/[0-9]+)?")
ANY_MOMENT = datetime(2026, 1, 1, tzinfo=UTC)


def check_cron(text: str) -> str:
    """The line itself, if it is one: minute, hour, day of month, month, day of week.

    Raises:
        ValueError: says which field is wrong and what is possible.
    """
    fields = text.split()
    if len(fields) != len(FIELDS):
        raise ValueError(
            f"{text!r} has {len(fields)} fields, 5 are needed: minute, hour, day of month, month, "
            "day of week"
        )
    for place, field in enumerate(fields):
        for part in field.split(","):
            alone = ["*"] * len(FIELDS)
            alone[place] = part
            if not (PART.fullmatch(part) and _is_read(" ".join(alone))):
                name, possible = FIELDS[place]
                raise ValueError(f"{name} {part!r}: {possible} is possible, with -, / and commas")
    if not _is_read(text):
        raise ValueError(f"{text!r}: none of these months has such a day, nothing would ever run")
    return text


def check_zone(name: str) -> str:
    """The name itself, if it is a time zone of this machine's database.

    Raises:
        ValueError: there is no such time zone; the error says the nearest name.
    """
    try:
        zoneinfo.ZoneInfo(name)
    except (zoneinfo.ZoneInfoNotFoundError, ValueError, OSError):
        meant = ask_meant(name, sorted(zoneinfo.available_timezones()))
        raise ValueError(f"{name!r} is no time zone such as UTC or Europe/Paris{meant}") from None
    return name


def _is_read(line: str) -> bool:
    try:
        CronSim(line, ANY_MOMENT)
    except CronSimError:
        return False
    return True
