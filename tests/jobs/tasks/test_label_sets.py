"""What people write where an example has several labels."""

import pytest

from jobs.errors import DataError
from jobs.tasks.contract import Asked
from jobs.tasks.label_sets import label_sets

LABELS = ("food", "time", "date, or day")


def read(*cells, labels=LABELS, mapping=()):
    return label_sets(cells, Asked(labels, dict(mapping), "d.csv", "labels"))


@pytest.mark.parametrize(
    "cells",
    [
        (["food", "time"], [], ["time"]),
        (["time", "food", "food"], [], ["time"]),
        (("food", "time"), (), ("time",)),
        ([0, 1], [], [1]),
        ("0|1", "[]", "1"),
        ('["food", "time"]', "[]", '["time"]'),
        ("food|time", "[]", "time"),
        ("food; time", "[]", " time "),
        ("food,time", "[]", "time"),
        ([1, 1, 0], [0, 0, 0], [0, 1, 0]),
        ([1.0, 1.0, 0.0], [0.0, 0.0, 0.0], [0.0, 1.0, 0.0]),
        ("[1, 1, 0]", "[0, 0, 0]", "[0, 1, 0]"),
        ("1,1,0", "0,0,0", "0,1,0"),
    ],
    ids=str,
)
def test_sets_in_every_form(cells):
    assert read(*cells) == ((0, 1), (), (1,))


def test_a_label_that_holds_a_separator_is_one_label():
    assert read("date, or day", "food") == ((2,), (0,))


def test_a_column_without_types_of_class_numbers():
    assert read(0, 1, "0|2") == ((0,), (1,), (0, 2))


def test_the_recipe_says_what_other_names_mean():
    mapping = {"essen": "food", "zeit": 1}
    assert read(["essen"], ["zeit", "essen"], mapping=mapping) == ((0,), (0, 1))
    with pytest.raises(DataError, match=r"task.labels.x: 'fod' .*did you mean 'food'"):
        read(["x"], [], mapping={"x": "fod"})


@pytest.mark.parametrize(
    ("cells", "message"),
    [
        ((["food"], ["tiem"]), r"holds 'tiem' in row 1.*did you mean 'time'"),
        (([1], [2]), r"holds '1' in row 0"),  # may count from 1
        (([3], [0]), r"holds '3' in row 0"),
        ((["food"], 0.5), r"holds 0.5 in row 1.*no set of labels"),
        ((["food"], [["time"]]), r"no set of labels"),
        ((["food"], "[food"), r"'\[food' in row 1.*no set of labels"),
        ((["food"], {"a": 1}), r"no set of labels"),
        ((["food"], ["food"]), r"all 2 rows have the same labels, \['food'\]"),
        (([1, 0], [0, 0]), r"holds \[0, 0\] in row 1, a number twice.*needs 3"),
    ],
    ids=str,
)
def test_what_is_no_set_is_told_with_its_row(cells, message):
    with pytest.raises(DataError, match=message):
        read(*cells)
