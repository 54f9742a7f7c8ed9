"""What a word that is not known may have been meant to be."""

import pytest

from fusion.nearest import ask_meant, find_near


@pytest.mark.parametrize(
    ("word", "near"),
    [
        ("positiv", "positive"),
        ("POSITIVE", "positive"),
        (" Positive ", "positive"),
        ("negatve", "Negative"),
        ("neutral", None),
        ("", None),
    ],
)
def test_the_name_most_like_a_word_is_found_whatever_its_case(word, near):
    names = ("positive", "Negative")
    assert find_near(word, names) == ([near] if near else [])
    assert ask_meant(word, names) == (f"; did you mean {near!r}?" if near else "")


def test_the_best_names_come_first_and_no_more_than_asked_for():
    names = ("step-1", "step-10", "seed-1")
    assert find_near("step-100", names, count=2) == ["step-10", "step-1"]
    assert find_near("step-100", names, likeness=0.95) == []
