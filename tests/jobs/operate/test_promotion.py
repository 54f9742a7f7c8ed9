import uuid

import pytest

from cluster.stores.memory import MemoryStore
from fusion.errors import ManifestError
from jobs.consume.resolve import resolve
from jobs.errors import NoCandidatesError, PointerError
from jobs.operate.promotion import hold, promote, roll_back, unhold
from jobs.outputs.pointer import read_history, read_pointer
from jobs.outputs.run_folder import RunFolder
from jobs.outputs.runs import read_outcome
from tests.support.interrupted_store import InterruptedStore
from tests.support.light_runs import begin, drive


@pytest.fixture
def store():
    return MemoryStore(f"memory://{uuid.uuid4().hex}")


def now(store):
    return read_pointer(store).pointer


def by_hand(store, run, reason="checked by eye"):
    return promote(store, run, reason=reason, is_dry_run=False)


def back(store, to=None, reason="users complain"):
    return roll_back(store, to, reason=reason, is_dry_run=False)


def test_a_run_that_the_gate_held_is_promoted_by_hand_with_the_reason(store):
    drive(store, "2026-11-21")
    drive(store, "2026-11-22", "HOLD")
    done = by_hand(store, "nightly-2026-11-22")
    assert "the gate had said HOLD" in done.text
    pointer = now(store)
    assert (pointer.run, pointer.previous) == ("nightly-2026-11-22", "nightly-2026-11-21")
    assert (pointer.changed.action, pointer.changed.reason) == ("promote", "checked by eye")
    assert read_outcome(RunFolder(store, "nightly-2026-11-22")).result == "held"


def test_promoting_an_older_run_by_hand_does_not_lower_the_high_water(store):
    drive(store, "2026-11-21", "HOLD")
    drive(store, "2026-11-23")
    by_hand(store, "nightly-2026-11-21")
    assert now(store).high_water == ("2026-11-23", 1)
    assert drive(store, "2026-11-22")[1].result == "superseded"


def test_promoting_by_hand_keeps_the_hold(store):
    drive(store, "2026-11-21")
    drive(store, "2026-11-22", "HOLD")
    hold(store, reason="release freeze")
    by_hand(store, "nightly-2026-11-22")
    assert (now(store).run, now(store).hold) == ("nightly-2026-11-22", "release freeze")


def test_a_run_that_is_not_finished_cannot_be_promoted(store):
    begin(store, "2026-11-21")
    with pytest.raises(PointerError, match="is not finished"):
        by_hand(store, "nightly-2026-11-21")
    with pytest.raises(NoCandidatesError, match="has no run 'nightly-2026-11-22'"):
        by_hand(store, "nightly-2026-11-22")
    assert read_pointer(store) is None


def test_a_dry_run_verifies_and_writes_nothing(store):
    drive(store, "2026-11-21")
    drive(store, "2026-11-22", "HOLD")
    before = store.read("latest.json")
    done = promote(store, "nightly-2026-11-22", reason="r", is_dry_run=True)
    assert done.text.startswith("would do: latest nightly-2026-11-21 -> nightly-2026-11-22")
    assert store.read("latest.json") == before


def test_rolling_back_goes_to_the_model_before_and_holds_there(store):
    drive(store, "2026-11-21")
    drive(store, "2026-11-22")
    back(store)
    pointer = now(store)
    assert (pointer.run, pointer.previous) == ("nightly-2026-11-21", "nightly-2026-11-22")
    assert pointer.hold == "rolled back from nightly-2026-11-22: users complain"
    assert pointer.high_water == ("2026-11-22", 1)
    assert drive(store, "2026-11-23")[1].result == "hold"
    unhold(store, reason="mended")
    assert drive(store, "2026-11-24")[1].result == "promoted"


def test_rolling_back_again_without_a_name_is_refused_and_names_the_next(store):
    for day in (21, 22, 23):
        drive(store, f"2026-11-{day}")
    back(store)
    hold(store, reason="still looking")
    with pytest.raises(PointerError, match="rolled back already") as caught:
        back(store)
    assert "--to nightly-2026-11-21" in caught.value.hint
    back(store, "nightly-2026-11-21")
    assert now(store).run == "nightly-2026-11-21"


def test_after_a_roll_back_and_a_new_promotion_rolling_back_skips_the_bad_model(store):
    drive(store, "2026-11-21")
    drive(store, "2026-11-22")
    back(store)
    unhold(store, reason="")
    drive(store, "2026-11-23")
    back(store)
    assert now(store).run == "nightly-2026-11-21"


@pytest.mark.parametrize("damage", ["missing", "other bytes", "other size", "no manifest"])
def test_a_damaged_model_is_not_rolled_back_to(store, damage):
    drive(store, "2026-11-21")
    folder = now(store).model
    drive(store, "2026-11-22")
    key = f"{folder}/config.json"
    if damage == "missing":
        store.delete(key)
    elif damage == "no manifest":
        store.delete(f"{folder}/manifest.json")
    else:
        store.put(key, b"[]" if damage == "other bytes" else b"[0]")
    with pytest.raises(ManifestError, match=f"{folder}/"):
        back(store)
    assert now(store).run == "nightly-2026-11-22"


def test_what_was_never_promoted_is_not_rolled_back_to(store):
    drive(store, "2026-11-21")
    drive(store, "2026-11-22", "HOLD")
    with pytest.raises(PointerError, match="was never promoted"):
        back(store, "nightly-2026-11-22")
    with pytest.raises(PointerError, match="no model was promoted before"):
        back(store)


def test_an_output_without_a_model_cannot_be_steered(store):
    for verb in (back, lambda s: hold(s, reason="r"), lambda s: unhold(s, reason="r")):
        with pytest.raises(NoCandidatesError, match="nothing was promoted"):
            verb(store)


def test_a_pointer_of_another_recipe_is_not_replaced_by_hand(store):
    drive(store, "2026-11-21", recipe="other")
    drive(store, "2026-11-22", "HOLD")
    with pytest.raises(PointerError, match="belongs to recipe 'other'"):
        by_hand(store, "nightly-2026-11-22")


def test_the_history_says_who_did_what_when_and_why(store):
    drive(store, "2026-11-21")
    hold(store, reason="freeze")
    unhold(store, reason="thaw")
    changes = [pointer.changed for pointer in read_history(store)]
    assert [(c.action, c.reason) for c in changes] == [
        ("unhold", "thaw"), ("hold", "freeze"), ("promote", "the gate said PROMOTE"),
    ]  # fmt: skip
    assert all("@" in change.by and change.at.endswith("+00:00") for change in changes)


@pytest.mark.parametrize("verb", ["promote", "rollback", "hold"])
def test_a_lost_answer_at_any_operation_writes_one_pointer(verb):
    verbs = {
        "promote": lambda s: by_hand(s, "nightly-2026-11-23"),
        "rollback": back,
        "hold": lambda s: hold(s, reason="r"),
    }
    at, count = 0, 1
    while at < count:
        store = MemoryStore(f"memory://{uuid.uuid4().hex}")
        drive(store, "2026-11-21")
        drive(store, "2026-11-22")
        drive(store, "2026-11-23", "HOLD")
        twice = InterruptedStore(store, at, "twice")
        verbs[verb](twice)
        assert now(store).epoch == 3
        at, count = at + 1, twice.count


@pytest.mark.parametrize("act", [
    lambda store: hold(store, reason="r"),
    lambda store: unhold(store, reason="r"),
    lambda store: roll_back(store, None, reason="r", is_dry_run=False),
    lambda store: promote(store, "nightly-2026-11-21", reason="r", is_dry_run=False),
    lambda store: resolve(store.uri),
], ids=["hold", "unhold", "roll back", "promote", "resolve"])  # fmt: skip
def test_a_pointer_that_is_gone_is_not_taken_for_none(store, act):
    for day in (21, 22):
        drive(store, f"2026-11-{day}")
    store.delete("latest.json")
    with pytest.raises(PointerError, match=r"is gone, but .*pointer-log/ says"):
        act(store)
    assert [e.key for e in store.list("latest")] == []
