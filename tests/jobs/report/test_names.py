import pytest

from jobs.report.names import shorten_names

LONG = "sentence-transformers-all-mpnet-base-v2-lr-0.00003-warmup-0.06-seed"


@pytest.mark.parametrize("longest", [8, 19, 26])
def test_long_names_that_differ_at_one_place_stay_apart(longest):
    for names in (
        [f"{LONG}-{i}" for i in range(10)],
        [f"{i}-{LONG}" for i in range(10)],
        [f"{LONG}-{i}-{LONG}" for i in range(10)],
        [LONG, LONG + "-1"],
    ):
        shown = shorten_names(names, longest)
        assert list(shown) == names
        assert len(set(shown.values())) == len(names)
        assert all(len(text) <= longest and "…" in text for text in shown.values())


def test_names_that_fit_are_not_touched():
    names = ["seed-1", "seed-2", "x" * 19]
    assert list(shorten_names([*names, LONG], 19).values())[:3] == names


def test_a_lonely_long_name_keeps_its_beginning():
    assert shorten_names([LONG, "seed-1"], 19)[LONG] == "sentence-transform…"


def test_a_long_name_shows_the_end_that_tells_it_apart():
    shown = shorten_names([f"{LONG}-14-epoch-3", f"{LONG}-15-epoch-3"], 26)
    assert list(shown.values()) == ["sentence…6-seed-14-epoch-3", "sentence…6-seed-15-epoch-3"]


def test_control_characters_are_shown_as_such():
    assert shorten_names(["a\x1b[2J\0"], 26)["a\x1b[2J\0"] == "a\ufffd[2J\ufffd"
