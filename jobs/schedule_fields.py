"""What may stand in a recipe's schedule: five cron fields, and a time zone that exists."""

import difflib
import re
import zoneinfo

MONTHS = ("jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec")
DAYS = ("sun", "mon", "tue", "wed", "thu", "fri", "sat")
# Name, smallest and largest number, and names that stand for numbers from the smallest on.
FIELDS: tuple[tuple[str, int, int, tuple[str, ...]], ...] = (
    ("minute", 0, 59, ()),
    ("hour", 0, 23, ()),
    ("day of month", 1, 31, ()),
    ("month", 1, 12, MONTHS),
    ("day of week", 0, 7, DAYS),
)
PART = re.compile(r"(?:\*|(\w+)(?:-(\w+))?)(?:/([0-9]+))?")


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
    for field, (name, low, high, words) in zip(fields, FIELDS, strict=True):
        for part in field.split(","):
            if not _fits(part, low, high, words):
                names = f" or {words[0]} to {words[-1]}" if words else ""
                raise ValueError(
                    f"{name} {part!r}: {low} to {high}{names} is possible, with -, / and commas"
                )
    return text


def check_zone(name: str) -> str:
    """The name itself, if it is a time zone of this machine's database.

    Raises:
        ValueError: with the nearest name.
    """
    try:
        zoneinfo.ZoneInfo(name)
    except (zoneinfo.ZoneInfoNotFoundError, ValueError, OSError):
        near = difflib.get_close_matches(name, sorted(zoneinfo.available_timezones()), n=1)
        meant = f"; did you mean {near[0]!r}?" if near else ""
        raise ValueError(f"{name!r} is no time zone such as UTC or Europe/Paris{meant}") from None
    return name


def _fits(part: str, low: int, high: int, words: tuple[str, ...]) -> bool:
    match = PART.fullmatch(part)
    if match is None or match[3] == "0" * len(match[3] or "0"):
        return False
    ends = [_number(end, low, words) for end in (match[1], match[2]) if end is not None]
    return all(end is not None and low <= end <= high for end in ends) and (
        len(ends) < 2 or (ends[0] or 0) <= (ends[1] or 0)
    )


def _number(text: str, low: int, words: tuple[str, ...]) -> int | None:
    if text.isascii() and text.isdigit():
        return int(text)
    return low + words.index(text.lower()) if text.lower() in words else None
