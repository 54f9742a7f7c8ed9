"""What every exported unit is made of."""

import textwrap
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from jobs.schedule.nights import ON_TIME_SECONDS
from jobs.schedule.timetable import Clocks, Timetable

UnitKind = Literal["kubernetes", "kuberay", "systemd", "crontab"]


@dataclass(frozen=True, slots=True)
class UnitRequest:
    """What a unit is made from.

    Attributes:
        timetable: timetable that says when nights are due.
        recipe: absolute path of the recipe on the machine of the unit.
        recipe_text: content of the recipe, which travels in a ConfigMap.
        output: output of the recipe; if it is a folder, the unit must be able to write to it.
        image: container image with metafuse.
        address: address of the cluster, as `schedule run` takes it; "" for the kind's own default.
        command: absolute command line of metafuse on the machine of the unit.
        warning: warning of ticks that clock changes touch; "" if there is none.
    """

    timetable: Timetable
    recipe: Path
    recipe_text: str
    output: str
    image: str
    address: str = ""
    command: tuple[str, ...] = ("/usr/bin/env", "metafuse")
    warning: str = ""


@dataclass(frozen=True, slots=True)
class Unit:
    """One file."""

    name: str
    text: str


def start_limit_seconds(timetable: Timetable) -> float:
    """How late a night may begin."""
    return max(timetable.catch_up_seconds, ON_TIME_SECONDS)


def is_every_day(clocks: Clocks) -> bool:
    """Whether neither days of the month nor days of the week leave anything out."""
    is_full = (len(clocks.days) == 31, len(clocks.weekdays) == 7)
    return all(is_full) if clocks.are_both else any(is_full)


def as_comment(text: str) -> str:
    """Lines that begin with a hash; nothing for an empty text."""
    return "".join(f"# {line}\n" for line in textwrap.wrap(text, 98))


def number_list(numbers: tuple[int, ...], count: int) -> str:
    """Numbers with commas; a star where none of `count` is missing."""
    return "*" if len(numbers) == count else ",".join(map(str, numbers))
