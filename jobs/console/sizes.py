"""Bytes, counts and durations as people write them."""

import math
import re

from jobs.errors import RecipeError, UsageError

SECONDS = {"s": 1, "m": 60, "h": 3600, "d": 86400}
SIZES = {
    "": 1, "B": 1, "KB": 10**3, "MB": 10**6, "GB": 10**9, "TB": 10**12,
    "KiB": 2**10, "MiB": 2**20, "GiB": 2**30, "TiB": 2**40,
}  # fmt: skip
COUNTS = {"": 1, "k": 10**3, "K": 10**3, "M": 10**6, "B": 10**9, "T": 10**12}
BIT_RATES = {"Mbit": 10**6, "Gbit": 10**9}  # a second
# mergekit counts a shard in bytes and writes its billions as B.
SHARD_UNITS = {"": 1, "k": 10**3, "m": 10**6, "b": 10**9}


def parse_size(text: str) -> int:
    """Bytes from "1GiB".

    Raises:
        RecipeError: not a size.
    """
    match = re.fullmatch(r"\s*([0-9]+(?:\.[0-9]+)?)\s*([A-Za-z]*)\s*", text)
    if not match or match[2] not in SIZES:
        raise RecipeError(f"{text!r} is not a size such as 1GiB")
    return int(float(match[1]) * SIZES[match[2]])


def format_size(size: int) -> str:
    """13.64 GB, 5.5 MB, 820 kB, 12 B: decimal units."""
    for unit, digits in (("GB", 2), ("MB", 1), ("KB", 0)):
        if size >= SIZES[unit]:
            return f"{size / SIZES[unit]:.{digits}f} {unit.replace('K', 'k')}"
    return f"{size} B"


def format_wait(seconds: float) -> str:
    """9m59s, or 2h05m: rounded up, so that who waits so long has waited enough."""
    whole = math.ceil(seconds)
    minutes, rest = divmod(whole, 60)
    if whole < 60:
        return f"{whole}s"
    if minutes < 60:
        return f"{minutes}m{rest:02d}s"
    return f"{minutes // 60}h{minutes % 60 + (rest > 0):02d}m"


def parse_age(text: str, *, option: str) -> float:
    """Seconds from "7d", "12h" or "0".

    Args:
        text: value of an option; a number alone is none of seconds, hours and days, unless it is 0.
        option: its name, for the message.

    Raises:
        UsageError: neither.
    """
    match = re.fullmatch(r"([0-9]+(?:\.[0-9]+)?)([smhd]?)", text.strip())
    if not match:
        raise UsageError(f"{option} {text}: expected an age such as 7d or 12h; nothing was done")
    if not match[2] and float(match[1]):
        raise UsageError(
            f"{option} {text} has no unit; nothing was done",
            f"write {option} {match[1]}d for days, or s, m, h for seconds, minutes, hours",
        )
    return float(match[1]) * SECONDS.get(match[2], 1)


def parse_shard_size(text: str) -> int:
    """Bytes of --out-shard-size: mergekit's 5B is 5 billion, as are 5GB and 5000000000.

    Raises:
        ValueError: not a size above 0.
    """
    match = re.fullmatch(r"([0-9]+(?:\.[0-9]+)?)([kKmMbB]?)", text.strip())
    try:
        size = int(float(match[1]) * SHARD_UNITS[match[2].lower()]) if match else parse_size(text)
    except RecipeError:
        size = 0
    if size < 1:
        raise ValueError(f"{text!r} is not a size such as 5B, 500M or 1GiB")
    return size
