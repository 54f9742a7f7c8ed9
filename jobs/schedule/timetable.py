"""When nights are due: the ticks of a cron line in its zone, and the logical date of each."""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import cache, lru_cache
from typing import Literal
from zoneinfo import ZoneInfo

from cronsim import CronSim

from jobs.recipes.recipe import Recipe

Overlap = Literal["skip", "queue", "cancel_older"]
# Looked back from where ticks are wanted: no clock change is larger, so none hides a tick.
MARGIN = timedelta(hours=26)
DAY = timedelta(days=1)
YEAR = timedelta(days=366)
QUARTER = timedelta(minutes=15)


@dataclass(frozen=True, slots=True)
class Timetable:
    """A recipe's schedule.

    Attributes:
        name: name of the recipe.
        cron: cron line of five fields, checked.
        zone: IANA name of the time zone, checked.
        overlap: what happens to a night that is due while an earlier one still runs.
        catch_up_seconds: seconds after its tick within which a night may begin or be tried again.
    """

    name: str
    cron: str
    zone: str
    overlap: Overlap = "skip"
    catch_up_seconds: float = 0.0

    @property
    def tzinfo(self) -> ZoneInfo:
        """The zone itself."""
        return ZoneInfo(self.zone)


@dataclass(frozen=True, slots=True)
class Tick:
    """One moment of a timetable: seconds since 1970, and the logical date of its run."""

    at: float
    date: str


@dataclass(frozen=True, slots=True)
class Clocks:
    """What a cron line says, as numbers. `are_both` joins day of month and day of week by "and"."""

    minutes: tuple[int, ...]
    hours: tuple[int, ...]
    days: tuple[int, ...]
    months: tuple[int, ...]
    weekdays: tuple[int, ...]
    are_both: bool

    @property
    def is_daily(self) -> bool:
        """At most one tick a day, so that the date alone names the run."""
        return len(self.minutes) == len(self.hours) == 1


def timetable_of(recipe: Recipe) -> Timetable | None:
    """The schedule of a recipe; None if it has none."""
    block = recipe.schedule
    if block is None:
        return None
    return Timetable(recipe.name, block.cron, block.zone, block.overlap, block.catch_up_seconds)


@cache
def read_clocks(cron: str) -> Clocks:
    """The numbers behind five cron fields; Sunday is 0."""
    read = CronSim(cron, datetime(2026, 1, 1, tzinfo=UTC))
    weekdays = {day % 7 for day in read.weekdays if isinstance(day, int)}
    return Clocks(
        tuple(sorted(read.minutes)),
        tuple(sorted(read.hours)),
        tuple(sorted(read.days)),
        tuple(sorted(read.months)),
        tuple(sorted(weekdays)),
        read.day_and,
    )


def ticks(timetable: Timetable, after: float, until: float | None = None) -> Iterator[Tick]:
    """The ticks after one moment up to another, as Debian's cron has them.

    A fixed time that a clock change skips comes right after the change, and one that is repeated
    comes once. The logical date is the date in the zone; of a line that ticks more often than
    daily the minute in UTC, so that the hour that is repeated has names of its own.

    Args:
        timetable: timetable with cron line and zone.
        after: moment before the first tick, seconds since 1970.
        until: last moment that counts, seconds since 1970; None goes on for as long as there are
            ticks.
    """
    clocks = read_clocks(timetable.cron)
    cron = timetable.cron
    if clocks.is_daily:
        # A fixed time however it was written: "*/60" would follow the rules of wildcards.
        rest = timetable.cron.split()[2:]
        cron = " ".join([str(clocks.minutes[0]), str(clocks.hours[0]), *rest])
    begin = datetime.fromtimestamp(after, timetable.tzinfo) - MARGIN
    for moment in CronSim(cron, begin):
        at = moment.timestamp()
        if until is not None and at > until:
            return
        date = _logical_date(moment, is_daily=clocks.is_daily)
        if at > after:
            yield Tick(at, date)


@lru_cache(maxsize=64)
def next_tick(timetable: Timetable, after: float) -> Tick | None:
    """The first tick after a moment; None if there is none in decades."""
    return next(ticks(timetable, after), None)


def _logical_date(moment: datetime, *, is_daily: bool) -> str:
    if is_daily:
        return moment.date().isoformat()
    return moment.astimezone(UTC).strftime("%Y-%m-%dT%H%MZ")


def clock_change_warning(timetable: Timetable, now: float) -> str | None:
    """What to say of a time that the zone's clock changes skip or repeat; None if there is nothing.

    Changes of the coming year are looked at; 01:00 to 03:00 counts in every zone that has some.
    """
    zone = timetable.tzinfo
    changes = _find_changes(zone, datetime.fromtimestamp(now, UTC))
    if not changes:
        return None
    clocks = read_clocks(timetable.cron)
    touched = {1, 2}.union(*(_touched_hours(change, zone) for change in changes))
    hit = sorted(touched & set(clocks.hours))
    if not hit or len(clocks.hours) == 24:
        return None
    return (
        f"schedule.cron: {hit[0]:02d}:{clocks.minutes[0]:02d} is near the clock changes of "
        f"{timetable.zone} (next {changes[0].astimezone(zone):%Y-%m-%d}), where times are skipped "
        "or repeated; it runs once all the same, but cron daemons, timers and CronJobs differ: "
        "04:00 is safe everywhere"
    )


def _find_changes(zone: ZoneInfo, begin: datetime) -> list[datetime]:
    """First moments of a new offset within a year; clocks change at quarters of an hour in UTC."""
    found = []
    day = begin.replace(minute=0, second=0, microsecond=0)
    while day < begin + YEAR:
        if _offset(day, zone) != _offset(day + DAY, zone):
            moment = day
            while _offset(moment, zone) == _offset(day, zone):
                moment += QUARTER
            found.append(moment)
        day += DAY
    return found


def _touched_hours(change: datetime, zone: ZoneInfo) -> set[int]:
    """Hours of the clock that a change skips or repeats."""
    offsets = (_offset(change - QUARTER, zone), _offset(change, zone))
    wall, end = change + min(offsets), change + max(offsets)
    hours = set()
    while wall < end:
        hours.add(wall.hour)
        wall += QUARTER
    return hours


def _offset(moment: datetime, zone: ZoneInfo) -> timedelta:
    return moment.astimezone(zone).utcoffset() or timedelta()
