"""The real code beside the reference model: crashes, lost answers, others at every operation."""

import copy
import uuid
from itertools import pairwise

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from cluster.stores.memory import ROOMS, MemoryStore
from jobs.errors import JobError
from jobs.operate.promotion import hold, promote, roll_back, unhold
from jobs.operate.status import find_runs
from jobs.outputs.judgements import find_judgements
from jobs.outputs.pointer import read_history, read_pointer
from jobs.outputs.run_folder import RunFolder
from jobs.outputs.runs import read_outcome, read_plan
from jobs.outputs.verify import check_run
from tests.support import reference_model as model
from tests.support.interrupted_store import Crash, InterruptedStore
from tests.support.light_runs import drive

DATES = ("2026-11-21", "2026-11-22", "2026-11-23")
NAMES = [f"nightly-{date}{suffix}" for date in DATES for suffix in ("", ".2")]
OPERATIONS = st.integers(0, 45)

publishing = st.tuples(
    st.just("publish"),
    st.sampled_from(DATES),
    st.sampled_from(["PROMOTE", "PROMOTE", "PROMOTE", "HOLD", "REFUSE"]),
    st.sampled_from(["1", "2"]),
)
by_hand = st.one_of(
    st.tuples(st.just("promote"), st.sampled_from(NAMES)),
    st.tuples(st.just("roll_back"), st.none() | st.sampled_from(NAMES)),
    st.tuples(st.just("hold"), st.booleans()),
)
actions = publishing | by_hand


def real(store, action):
    """Carry an action out; what its caller is told."""
    kind, *given = action
    try:
        if kind == "publish":
            date, decision, data = given
            name, outcome, state = drive(store, date, decision, data)
            return name, outcome.result, outcome.previous, state
        if kind == "promote":
            done = promote(store, given[0], reason="r", is_dry_run=False)
        elif kind == "roll_back":
            done = roll_back(store, given[0], reason="r", is_dry_run=False)
        else:
            done = hold(store, reason="r") if given[0] else unhold(store, reason="r")
    except JobError as error:
        return type(error).__name__
    return "unchanged" if done.after == done.before else "changed"


def start(world, action):
    """The same action on the model."""
    kind, *given = action
    return getattr(model, kind)(world, *given)


def finish(running):
    try:
        while True:
            next(running)
    except StopIteration as stop:
        return stop.value


def cut_short(world, action):
    """Every world that an action may leave when its process dies."""
    for length in range(100):
        after = copy.deepcopy(world)
        running = start(after, action)
        is_over = any(next(running, "over") == "over" for _ in range(length))
        yield after, "crash"
        if is_over:
            return


def interleaved(world, action, other):
    """Every world, and both answers, if another action takes place somewhere inside an action."""
    for length in range(100):
        after = copy.deepcopy(world)
        running = start(after, action)
        told = None
        for _ in range(length):
            try:
                next(running)
            except StopIteration as stop:
                told = (stop.value,)
                break
        second = finish(start(after, other))
        yield after, (told[0] if told else finish(running), second)
        if told:
            return


def read_world(store):
    """What is stored, in the model's words."""
    log = [
        model.Standing(p.run, p.previous, p.high_water, "held" if p.hold else "", p.changed.action)
        for p in read_history(store)
    ]
    world = model.World(log=log[::-1])
    for name in find_runs(store):
        plan, outcome = read_plan(RunFolder(store, name)), read_outcome(RunFolder(store, name))
        world.runs[name] = model.Run(
            plan.order,
            plan.data.etag,
            plan.incumbent.run if plan.incumbent else "",
            {
                j.report.incumbent: j.report.verdict.decision
                for j in find_judgements(RunFolder(store, name))
            },
            (outcome.result, outcome.previous) if outcome else None,
        )
    return world


class Publishing(RuleBasedStateMachine):
    def __init__(self):
        super().__init__()
        self.store = MemoryStore(f"memory://machine-{uuid.uuid4().hex}")
        self.world = model.World()

    def teardown(self):
        ROOMS.pop(self.store.uri.removeprefix("memory://"))

    def settle(self, told, allowed):
        """The store is in one of the allowed worlds, and its callers were told so."""
        found = read_world(self.store)
        worlds = list(allowed)
        matching = [world for world, answer in worlds if world == found and answer == told]
        assert matching, f"told {told}, found {found}, allowed {worlds}"
        self.world = matching[0]

    @rule(action=actions)
    def act(self, action):
        told = real(self.store, action)
        after = copy.deepcopy(self.world)
        self.settle(told, [(after, finish(start(after, action)))])

    @rule(action=actions, at=OPERATIONS, event=st.sampled_from(["before", "after"]))
    def die(self, action, at, event):
        store = InterruptedStore(self.store, at, event)
        try:
            told = real(store, action)
        except Crash:
            self.settle("crash", cut_short(self.world, action))
        else:
            after = copy.deepcopy(self.world)
            self.settle(told, [(after, finish(start(after, action)))])

    @rule(action=actions, at=OPERATIONS)
    def lose_an_answer(self, action, at):
        told = real(InterruptedStore(self.store, at, "twice"), action)
        after = copy.deepcopy(self.world)
        self.settle(told, [(after, finish(start(after, action)))])

    @precondition(lambda self: self.world.runs)
    @rule(action=actions, other=actions, at=OPERATIONS)
    def let_another_act(self, action, other, at):
        heard = []
        store = InterruptedStore(self.store, at, lambda: heard.append(real(self.store, other)))
        told = real(store, action)
        if not heard:
            heard.append(real(self.store, other))
        self.settle((told, heard[0]), interleaved(self.world, action, other))

    @invariant()
    def a_reader_finds_one_whole_model_or_none(self):
        seen = read_pointer(self.store)
        if seen is not None:
            found = check_run(self.store, seen.pointer.run, seen.pointer.manifest_sha256)
            assert found.folder == seen.pointer.model

    @invariant()
    def the_chain_is_whole(self):
        check_chain(self.store)


def check_chain(store):
    pointers = list(read_history(store))[::-1]
    assert [pointer.epoch for pointer in pointers] == list(range(1, len(pointers) + 1))
    for before, after in pairwise(pointers):
        assert after.high_water >= before.high_water
        if after.run != before.run:
            assert after.previous == before.run
        if after.changed.reason == "the gate said PROMOTE":
            assert not before.hold
            assert after.high_water > before.high_water
        if before.hold and after.changed.action != "unhold":
            assert after.hold


WITHOUT = [HealthCheck.too_slow, HealthCheck.filter_too_much, HealthCheck.data_too_large]
TestPublishing = Publishing.TestCase
TestPublishing.settings = settings(
    max_examples=40, stateful_step_count=12, suppress_health_check=WITHOUT
)


@pytest.mark.slow
class TestPublishingAtLength(Publishing.TestCase):
    settings = settings(max_examples=400, stateful_step_count=25, suppress_health_check=WITHOUT)
