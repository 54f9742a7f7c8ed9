"""Nights on a clock that is turned by hand: schedulers of several hosts, children, and crashes."""

import random
from dataclasses import dataclass, field
from datetime import datetime
from zoneinfo import ZoneInfo

from cluster.errors import UnreachableError
from jobs.outputs.lease import Holder
from jobs.schedule.scheduler import Scheduler, StateFile, read_state
from jobs.schedule.timetable import Timetable

KEY = "schedule/nightly.json"


class Crash(Exception):
    """The host of a scheduler loses power."""


def moment(text, zone="UTC"):
    return datetime.fromisoformat(text).replace(tzinfo=ZoneInfo(zone)).timestamp()


def timetable(cron="0 4 * * *", zone="UTC", overlap="skip", hours=6.0):
    return Timetable("nightly", cron, zone, overlap, hours * 3600)


@dataclass
class World:
    """Time, and every child that was ever begun."""

    now: float
    begun: list = field(default_factory=list)
    completed: list = field(default_factory=list)
    lines: list = field(default_factory=list)


class FakeChild:
    """Takes `seconds` of the world's time and ends with `code`; ends at once when asked to."""

    def __init__(self, world, date, seconds, code):
        self.world, self.date, self.until, self.code = world, date, world.now + seconds, code
        self.is_told = False
        self.is_dead = False

    def poll(self):
        if self.is_dead or self.world.now < self.until:
            return None
        if not self.is_told:
            self.is_told = True
            self.world.completed.append((self.date, self.code))
        return self.code

    def stop(self, *, is_cancelled):
        if self.world.now < self.until:
            self.until, self.code = self.world.now, 130

    def kill(self):
        self.stop(is_cancelled=False)


class CrashingStore:
    """A store whose caller dies before or after a write, does not hear the answer, or is outrun."""

    def __init__(self, store):
        self._store = store
        self.crash = ""
        self.outrun = None

    def put(self, *words, **named):
        crash, self.crash = self.crash, ""
        outrun, self.outrun = self.outrun, None
        if outrun is not None:
            outrun()  # another scheduler acts between our reading and our writing
        if crash == "before":
            raise Crash
        info = self._store.put(*words, **named)
        if crash == "after":
            raise Crash
        if crash == "unheard":
            raise UnreachableError("the answer was lost")
        return info

    def __getattr__(self, name):
        return getattr(self._store, name)


class Host:
    """One machine with a scheduler on it, which may be down; its clock is off by `skew` seconds."""

    def __init__(self, world, store, table, name, *, skew=0.0, plan=lambda date: (40, 0)):
        self.world, self.table, self.name, self.skew, self.plan = world, table, name, skew, plan
        self.store = CrashingStore(store)
        self.starts = 0
        self.wake = 0.0
        self.crash_at_begin = False
        self.children = []
        self.scheduler = None
        self.start()

    def start(self):
        self.starts += 1
        me = Holder(f"{self.name}-{self.starts}", "", f"host-{self.name}", 1, "")
        self.scheduler = Scheduler(
            StateFile(self.store, KEY),
            self.table,
            begin=self.begin,
            say=self.world.lines.append,
            me=me,
        )
        self.wake = self.world.now

    def begin(self, night):
        if self.crash_at_begin:
            self.crash_at_begin = False
            raise Crash
        child = FakeChild(self.world, night.date, *self.plan(night.date))
        self.children.append(child)
        self.world.begun.append(night.date)
        return child

    def power_off(self):
        for child in self.children:
            child.is_dead = True
        self.scheduler = None

    def step(self):
        """Let the scheduler decide if it is awake; a crash takes the host down."""
        if self.scheduler is None:
            return
        now = self.world.now + self.skew
        if self.world.now < self.wake and not self.scheduler.has_news:
            return
        try:
            self.scheduler.step(now, self.world.now)
            self.wake = self.world.now + self.scheduler.wake_seconds(now)
        except UnreachableError:
            self.wake = self.world.now + 10
        except Crash:
            self.power_off()


def run_until(world, hosts, end):
    """Turn the clock from one moment at which something may happen to the next."""
    while world.now < end:
        for host in hosts:
            host.step()
        awake = [host for host in hosts if host.scheduler is not None]
        moments = [host.wake for host in awake]
        moments += [c.until for h in awake for c in h.children if not (c.is_told or c.is_dead)]
        world.now = min([end, *(max(m, world.now + 0.5) for m in moments)])


def some_plan(seed):
    """Most nights take a minute and get a verdict; some fail first and recover."""
    generator = random.Random(seed)
    tries = {}

    def plan(date):
        tries[date] = tries.get(date, 0) + 1
        if tries[date] == 1 and generator.random() < 0.1:
            return 60, generator.choice((40, 30, 23, 70))
        return generator.choice((20, 40, 90)), generator.choice((0, 0, 0, 3, 4, 5))

    return plan


def state_of(store):
    return read_state(store, KEY)
