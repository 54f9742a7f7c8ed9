"""What publishing, resuming, promoting by hand, rolling back and holding mean.

Each action is a generator over one `World`: what it does between two `yield`s happens at once, and
others may act, or the process may die, where it yields. It returns what its caller is told.
"""

from dataclasses import dataclass, field

REJUDGED = 3


@dataclass
class Standing:
    """The pointer. `order` is the high water, `action` how it came to be."""

    run: str
    previous: str
    order: tuple
    hold: str
    action: str


@dataclass
class Run:
    """A run: what was frozen, what the gate said against whom, how it ended."""

    order: tuple
    data: str
    incumbent: str
    rulings: dict = field(default_factory=dict)
    ended: tuple | None = None  # (result, previous)


@dataclass
class World:
    """All that is stored. The last of `log` is the pointer."""

    log: list = field(default_factory=list)
    runs: dict = field(default_factory=dict)

    @property
    def now(self):
        return self.log[-1] if self.log else None


def publish(world, date, decision, data):
    """A driver: takes up the unfinished attempt of a date, or starts one if anything is new."""
    name, _ = last_attempt(world, date)
    state = "resumed"
    if not name or world.runs[name].ended:
        incumbent = world.now.run if world.now else ""
        yield
        name, number = last_attempt(world, date)
        if name and world.runs[name].ended and world.runs[name].data == data:
            return name, *world.runs[name].ended, "nothing_new"
        name = f"nightly-{date}" + (f".{number + 1}" if number else "")
        wanted = Run((date, number + 1), data, incumbent)
        yield
        run = world.runs.setdefault(name, wanted)  # if another driver was quicker, its run
        mine = (run.order, run.data, run.incumbent) == (wanted.order, data, incumbent)
        state = "new" if mine else "resumed"
    yield
    run = world.runs[name]
    if promoted_at(world, name):
        return end(run, "promoted", promoted_at(world, name).previous, name, state)
    incumbent = run.incumbent
    for _ in range(REJUDGED):
        yield
        ruling = run.rulings.setdefault(incumbent, decision)
        yield
        if ruling != "PROMOTE":
            return end(run, "held" if ruling == "HOLD" else "refused", "", name, state)
        result = move(world, name, run, incumbent)
        yield
        if promoted_at(world, name):
            return end(run, "promoted", promoted_at(world, name).previous, name, state)
        if result != "lost":
            return end(run, result, "", name, state)
        incumbent = world.now.run
    return end(run, "lost", "", name, state)


def move(world, name, run, incumbent):
    """Compare and swap."""
    now = world.now
    if now and now.run == name:
        return "promoted"
    if now and run.order <= now.order:
        return "superseded"
    if run.ended:
        return run.ended[0]
    if now and now.hold:
        return "hold"
    if (now.run if now else "") != incumbent:
        return "lost"
    world.log.append(Standing(name, now.run if now else "", run.order, "", "promote"))
    return "promoted"


def end(run, result, previous, name, state):
    """The first to say how a run ended is believed."""
    run.ended = run.ended or (result, previous)
    return name, *run.ended, state


def promote(world, name):
    """By hand: finished and judged runs only; a hold stays, the high water never falls."""
    yield
    run, now = world.runs.get(name), world.now
    if run is None:
        return "NoCandidatesError"
    if not run.ended:
        return "PointerError"
    if now and now.run == name:
        return "unchanged"
    order = max(now.order, run.order) if now else run.order
    hold = now.hold if now else ""
    world.log.append(Standing(name, now.run if now else "", order, hold, "promote"))
    return "changed"


def roll_back(world, to):
    """To a run that was promoted before, or to the one that the current one replaced; and hold."""
    yield
    now = world.now
    if now is None:
        return "NoCandidatesError"
    target = to
    if to is None:
        target = replaced(world)
        moves = [s.action for s in world.log if s.action in ("promote", "rollback")]
        if moves[-1] == "rollback" or target is None:
            return "PointerError"
    elif to not in {standing.run for standing in world.log}:
        return "PointerError"
    if target == now.run and now.hold:
        return "unchanged"
    previous = now.previous if target == now.run else now.run
    world.log.append(Standing(target, previous, now.order, "held", "rollback"))
    return "changed"


def hold(world, held):
    """Set or lift the hold."""
    yield
    now = world.now
    if now is None:
        return "NoCandidatesError"
    if not held and not now.hold:
        return "unchanged"
    action, text = ("hold", "held") if held else ("unhold", "")
    world.log.append(Standing(now.run, now.previous, now.order, text, action))
    return "changed"


def last_attempt(world, date):
    names = [name for name, run in world.runs.items() if run.order[0] == date]
    return (max(names, key=lambda n: world.runs[n].order), len(names)) if names else ("", 0)


def promoted_at(world, name):
    """How a run stands, or last stood, in the log; None if never."""
    return next((s for s in reversed(world.log) if s.run == name), None)


def replaced(world):
    """The run that stood there when the current one was last promoted."""
    run, before = world.now.run, list(reversed(world.log))
    at = next(i for i, s in enumerate(before) if s.run == run and s.action == "promote")
    return next((s.run for s in before[at:] if s.run != run), None)
