import numpy as np

from fusion.evidence.changes import find_changes
from fusion.scores.records import Records


def records(losses, units=None, ids=None):
    names = tuple(ids or (f"e{i}" for i in range(len(losses))))
    counts = np.ones(len(losses)) if units is None else np.array(units, float)
    return Records(names, names, np.array(losses, float), counts)


def test_the_largest_changes_come_first_whatever_their_direction():
    found = find_changes(records([1, 1, 1, 1]), records([1.5, 0.2, 1, 3]), most=2)
    assert [(c.id, c.gain) for c in found] == [("e3", -2.0), ("e1", 0.8)]


def test_what_differs_by_rounding_alone_did_not_change():
    found = find_changes(records([1, 2]), records([1 + 9e-6, 2.1]), most=20)
    assert [c.id for c in found] == ["e1"]


def test_losses_are_a_unit_and_only_of_examples_that_both_have():
    before, after = records([8, 5, 1], [4, 1, 1]), records([4, 1], [4, 1], ["e0", "e9"])
    (change,) = find_changes(before, after, most=20)
    assert (change.id, change.loss_reference, change.loss_model) == ("e0", 2.0, 1.0)


def test_equal_changes_are_ordered_by_name_and_infinite_ones_left_out():
    before, after = records([1, 1, 1], ids="cba"), records([2, 2, np.inf], ids="cba")
    assert [c.id for c in find_changes(before, after, most=20)] == ["b", "c"]
