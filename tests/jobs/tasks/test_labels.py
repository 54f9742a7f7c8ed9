"""What the values of a label column mean is decided once, or asked."""

import pytest
import yaml

from jobs.errors import DataError
from jobs.tasks.contract import Asked
from jobs.tasks.labels import class_numbers

STARS = ("1 star", "2 stars", "3 stars", "4 stars", "5 stars")
MOODS = ("negative", "positive")


def read(cells, labels, mapping=None):
    return class_numbers(cells, Asked(tuple(labels), mapping or {}, "eval.parquet", "label"))


@pytest.mark.parametrize(
    ("cells", "labels", "numbers"),
    [
        (["b", "a"], ["a", "b"], (1, 0)),
        (["1", "0"], MOODS, (1, 0)),
        ([1, 0, 1], MOODS, (1, 0, 1)),
        (["1", "0"], ["1", "0"], (0, 1)),  # a name outranks a number
        ([0, 3], STARS, (0, 3)),
    ],
)
def test_names_and_whole_numbers_from_0_are_understood(cells, labels, numbers):
    assert read(cells, labels) == numbers


@pytest.mark.parametrize(
    ("cells", "labels", "meant"),
    [
        ([1, 2, 3, 4], STARS, dict(zip("1234", STARS, strict=False))),
        ([1, 2, 5], STARS, {"1": "1 star", "2": "2 stars", "5": "5 stars"}),
        ([1, 2], MOODS, {"1": "negative", "2": "positive"}),
        ([1.0, 0.0], MOODS, {"0.0": "negative", "1.0": "positive"}),
        ([True, False], MOODS, {"false": "negative", "true": "positive"}),
        (["Positive", "NEGATIVE "], MOODS, {"Positive": "positive", "NEGATIVE ": "negative"}),
        (["0", "1", "2"], MOODS, {"0": "negative", "1": "positive", "2": "?"}),
        (["good", "negative"], MOODS, {"good": "?", "negative": "negative"}),
        ([1, 2], ("LABEL_0", "LABEL_1"), {"1": "LABEL_0", "2": "LABEL_1"}),
    ],
    ids=["stars", "far", "from 1", "floats", "booleans", "case", "too many", "unknown", "generic"],
)
def test_anything_else_is_refused_with_the_mapping_that_would_mend_it(cells, labels, meant):
    with pytest.raises(DataError, match=r"eval\.parquet: column 'label' holds") as caught:
        read(cells, labels)
    pasted = caught.value.hint.partition("task: ")[2]
    found = yaml.load(pasted, yaml.BaseLoader)["labels"]
    assert found == meant
    if "?" not in found.values():
        assert read(cells, labels, found) == tuple(
            labels.index(found[str(c).lower() if isinstance(c, bool) else str(c)]) for c in cells
        )


def test_a_mapping_names_labels_or_numbers_of_classes():
    assert read([1, 2, 1], MOODS, {"1": "positive", "2": 0}) == (1, 0, 1)
    with pytest.raises(DataError, match=r"'2', which task\.labels does not name"):
        read([1, 2], MOODS, {"1": "positive"})
    with pytest.raises(DataError, match=r"task\.labels\.1: 'positiv' .*did you mean 'positive'"):
        read([1], MOODS, {"1": "positiv"})
    with pytest.raises(DataError, match=r"task\.labels\.1: 2 is not one of"):
        read([1], MOODS, {"1": 2})


def test_a_column_of_numbers_without_end_is_probably_another_column():
    with pytest.raises(DataError) as caught:
        read([f"text {i}" for i in range(100)], MOODS)
    assert "100 different values; name the right one" in caught.value.hint


@pytest.mark.parametrize(
    ("cells", "mapping", "meant"),
    [
        (["positiv", "negative"], {}, "did you mean 'positive'?"),
        (["NEGATIV", "posi tive"], {}, "did you mean 'negative', 'positive'?"),
        (["bad", "positivee"], {"bad": 0, "positive": 1}, "did you mean 'positive'?"),
        (["neutral", "negative"], {}, None),
        (["0", "1", "2"], {}, None),
    ],
)
def test_labels_that_are_none_come_with_those_that_may_be_meant(cells, mapping, meant):
    with pytest.raises(DataError) as caught:
        read(cells, MOODS, mapping)
    assert (meant or "") in str(caught.value)
    assert ("did you mean" in str(caught.value)) == (meant is not None)


def test_labels_that_differ_by_a_number_are_not_guessed():
    with pytest.raises(DataError) as caught:
        read(["LABEL_0", "LABEL_2"], ("LABEL_0", "LABEL_1"))
    assert "did you mean" not in str(caught.value)
