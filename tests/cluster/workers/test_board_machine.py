"""The board of a pool, whatever happens in whatever order: a model of it that only counts."""

from collections import Counter
from dataclasses import dataclass

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
)

from cluster.workers.board import Board
from cluster.workers.patience import Patience

PATIENCE = Patience(tries=3, shortest=10.0, longest=100.0, samples=2, straggler=2.0)
LANES = [(worker, lane) for worker in range(3) for lane in range(2)]

# Mostly all workers answer.
SILENT = st.one_of(st.just(set()), st.just(set()), st.sets(st.integers(0, 2), min_size=1))


@dataclass
class Try:
    """An item on a lane, as the model remembers it."""

    item: int
    began: float
    is_given_up: bool = False


def host(lane):
    return f"host-{lane[0]}/{lane[0]}"


class BoardMachine(RuleBasedStateMachine):
    """Workers of two lanes on three hosts take, finish, fail, die, fall silent and are late."""

    def __init__(self):
        super().__init__()
        self.now = 0.0
        self.tries = Counter()
        self.hosts = {}
        self.open = {}
        self.answered = Counter()
        self.named = Counter()
        self.used_up = []
        self.num_timed = 0

    @initialize(count=st.integers(3, 8), large=st.integers(1, 5))
    def begin(self, count, large):
        self.items = range(count)
        labels = [f"unit {n}" for n in self.items]
        self.board = Board([1.0 + (n % 2) * large for n in self.items], labels, PATIENCE)

    def live(self, item):
        """Tries of an item that are not given up."""
        return [t for t in self.open.values() if t.item == item and not t.is_given_up]

    def has_ended(self, item):
        return self.answered[item] + self.named[item] > 0

    def is_to_be_done(self, item):
        return not self.has_ended(item) and not self.live(item) and item not in self.used_up

    def expect_again(self, item, given):
        """An item whose try is lost: it comes back, is used up, or goes on elsewhere."""
        if self.has_ended(item) or self.live(item) or item in self.used_up:
            assert given is None
        elif self.tries[item] == PATIENCE.tries:
            assert given == item
            self.used_up.append(item)
        else:
            assert given is None
            assert item in self.board.todo

    @precondition(lambda self: len(self.open) < len(LANES))
    @rule(data=st.data())
    def take(self, data):
        lane = data.draw(st.sampled_from([lane for lane in LANES if lane not in self.open]))
        waiting = [item for item in self.items if self.is_to_be_done(item)]
        item = self.board.take(lane, host(lane), self.now)
        if waiting:
            assert item in waiting
        elif item is not None:  # a second try of what another host is slow with
            (first,) = self.live(item)
            assert not self.has_ended(item)
            assert self.now - first.began > 1.0
            assert host(lane).partition("/")[0] not in self.hosts[item][-1]
            assert self.num_timed >= PATIENCE.samples
        if item is not None:
            self.tries[item] += 1
            self.hosts.setdefault(item, []).append(host(lane))
            self.open[lane] = Try(item, self.now)

    @rule(data=st.data())
    def hand_out(self, data):
        """Every free lane asks once."""
        while len(self.open) < len(LANES):
            before = len(self.open)
            self.take(data)
            if len(self.open) == before:
                return

    @precondition(lambda self: self.open)
    @rule(data=st.data(), seconds=st.one_of(st.none(), st.sampled_from([0.5, 1.0, 30.0])))
    def finish(self, data, seconds):
        lane = data.draw(st.sampled_from(sorted(self.open)))
        item = self.open.pop(lane).item
        is_first = not self.has_ended(item)
        assert self.board.finish(lane, seconds) == (item if is_first else None)
        # A second answer for an item tells how long it took as well as the first.
        self.num_timed += seconds is not None
        self.answered[item] += is_first

    @rule(worker=st.integers(0, 2))
    def die(self, worker):
        for lane in [lane for lane in LANES if lane[0] == worker]:
            given = self.board.lose(lane, "the process died")
            if lane in self.open:
                lost = self.open.pop(lane)
                self.expect_again(lost.item, given) if not lost.is_given_up else None
            else:
                assert given is None

    @rule(
        silent=st.one_of(st.just(set()), st.sets(st.integers(0, 2))),
        seconds=st.sampled_from([0.0, 4.0, 4.0, 9.0, 60.0, 500.0]),
    )
    def look(self, silent, seconds):
        """Time passes, and some workers have not answered for too long."""
        self.now += seconds
        limits = {lane: self.board.deadline(self.board.running[lane]) for lane in self.open}
        given = self.board.write_off(silent, self.now)
        lost = []
        for lane, one in self.open.items():
            is_late = self.now - one.began > limits[lane]
            if not one.is_given_up and (lane[0] in silent or is_late):
                one.is_given_up = True
                lost.append(one.item)
        for item in dict.fromkeys(lost):
            self.expect_again(item, item if item in given else None)
        assert set(given) <= set(lost)

    @rule()
    def name(self):
        """What used up its tries ends the run by its name, unless an answer came after all."""
        for item in self.used_up:
            if not self.has_ended(item):
                self.named[item] += 1
                said = str(self.board.describe_poison(item))
                assert said.startswith(f"unit {item} lost {PATIENCE.tries} workers on ")
                assert all(place in said for place in self.hosts[item])
        self.used_up = []

    @invariant()
    def every_item_ends_once_or_is_somewhere(self):
        for item in getattr(self, "items", ()):
            assert self.answered[item] + self.named[item] <= 1
            assert (item in self.board.finished) == self.has_ended(item)
            assert self.board.tries.get(item, 0) == self.tries[item] <= PATIENCE.tries
            if self.is_to_be_done(item):
                assert item in self.board.todo
            elif self.live(item) and not self.has_ended(item):
                assert item not in self.board.todo  # one worker too many would do it

    def teardown(self):
        """One worker that does not fail brings every item to its end."""
        if not hasattr(self, "items"):
            return
        self.look(set(range(3)), 0.0)
        self.name()
        new = (9, 0)
        while (item := self.board.take(new, "host-9/9", self.now)) is not None:
            assert self.board.finish(new, 1.0) == item
            self.answered[item] += 1
        assert self.board.is_done
        for item in self.items:
            assert self.answered[item] + self.named[item] == 1


TestBoard = BoardMachine.TestCase
TestBoard.settings = settings(max_examples=80, stateful_step_count=60)
