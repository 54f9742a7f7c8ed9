import numpy as np

from fusion.scores.confusion import Answers, count_answers
from fusion.scores.records import Records


def records(truth, prediction):
    names = tuple(f"e{i}" for i in range(len(truth)))
    columns = {"truth": np.array(truth, float), "prediction": np.array(prediction, float)}
    return Records(names, names, np.zeros(len(truth)), np.ones(len(truth)), columns)


def test_recalls_and_counts_are_those_of_the_answers():
    fused = records([0, 0, 0, 1, 1], [0, 0, 1, 1, 0])
    best = records([0, 0, 0, 1, 1], [1, 1, 1, 1, 1])
    assert count_answers([fused, best], ["no", "yes", "maybe"], most=12) == (
        Answers("no", 3, (2 / 3, 0.0), (2, 1)),
        Answers("yes", 2, (0.5, 1.0), (1, 1)),
    )


def test_a_class_that_is_only_answered_has_a_row_and_no_recall():
    rows = count_answers([records([1, 1], [1, 0])], ["no", "yes"], most=12)
    assert rows == (Answers("yes", 2, (0.5,), (1, 1)), Answers("no", 0, (), (0, 0)))


def test_rare_classes_share_the_last_row():
    truth = [0] * 5 + [1] * 4 + [2, 2, 3]
    rows = count_answers([records(truth, truth)], list("abcd"), most=3)
    assert [row.label for row in rows] == ["a", "b", "2 others"]
    assert rows[-1] == Answers("2 others", 3, (1.0,), (0, 0, 3))
    assert sum(sum(row.given) for row in rows) == len(truth)
