"""Near-duplicates against a plain look at every pair, and where that is out of the question."""

import time

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from fusion.scores.canonical_text import canonical_text
from fusion.scores.near_duplicates import GRAM_WORDS, WORD, collect_grams, find_near


def plain_grams(text):
    words = tuple(WORD.findall(canonical_text(text)))
    if not words:
        return set()
    count = max(len(words) - GRAM_WORDS + 1, 1)
    return {words[i : i + GRAM_WORDS] for i in range(count)}


def plain_near(texts, losers, keepers):
    """The definition: 2 |both| >= |either| for any keeper."""
    sets = [plain_grams(text) for text in texts]
    return [
        bool(losers[i])
        and any(
            sets[i] and keepers[j] and 2 * len(sets[i] & sets[j]) >= len(sets[i] | sets[j])
            for j in range(len(texts))
        )
        for i in range(len(texts))
    ]


def near(texts, losers, keepers, *, pairs=1 << 20, letters=1 << 20):
    flags = [np.array(side, dtype=np.bool_) for side in (losers, keepers)]
    grams = collect_grams(texts, block_letters=letters)
    return find_near(grams, *flags, block_pairs=pairs).tolist()


# Long runs of few words overlap in every way: in part, within themselves, whole.
RUNS = st.tuples(st.integers(0, 30), st.integers(0, 45), st.sampled_from([1, 2, 7, 40]))


def made(parts):
    return " ".join(
        f"w{(start + i) % turn}" for start, length, turn in parts for i in range(length)
    )


TEXTS = st.lists(RUNS, max_size=3).map(made)
CASES = st.lists(st.tuples(TEXTS, st.sampled_from(["loser", "keeper", "neither"])), max_size=14)


@settings(max_examples=300, deadline=None)
@given(CASES)
@example([("", "loser"), ("...", "keeper"), ("!", "loser")])
@example([("w " * 13, "loser"), ("w " * 14, "keeper")])
def test_near_is_what_a_look_at_every_pair_finds(cases):
    texts = [text for text, _ in cases]
    losers = [side == "loser" for _, side in cases]
    keepers = [side == "keeper" for _, side in cases]
    assert near(texts, losers, keepers) == plain_near(texts, losers, keepers)


@settings(max_examples=60, deadline=None)
@given(CASES, st.integers(1, 40), st.integers(1, 200))
def test_blocks_of_any_size_find_the_same(cases, pairs, letters):
    texts = [text for text, _ in cases]
    losers = [side == "loser" for _, side in cases]
    keepers = [side == "keeper" for _, side in cases]
    found = near(texts, losers, keepers, pairs=pairs, letters=letters)
    assert found == plain_near(texts, losers, keepers)


@pytest.mark.parametrize(
    ("loser", "keeper", "is_near"),
    [
        ("Good phone!", "good   PHONE", True),
        ("good phone", "good phones", False),
        (made([(0, 13, 40)]), made([(0, 14, 40)]), True),
        (made([(0, 12, 40)]), made([(0, 13, 40)]), False),
        # 20 and 30 grams, all 20 in common; half of 30; 14 of 30; 10 of 30 and 30.
        (made([(0, 32, 99)]), made([(0, 42, 99)]), True),
        (made([(0, 42, 99)]), made([(0, 32, 99)]), True),
        (made([(0, 42, 99)]), made([(0, 27, 99)]), True),
        (made([(0, 27, 99)]), made([(0, 42, 99)]), True),
        (made([(0, 42, 99)]), made([(0, 26, 99)]), False),
        (made([(0, 42, 99)]), made([(20, 42, 99)]), False),
        ("?!", "?!", False),
        ("", "", False),
    ],
)
def test_most_of_the_grams_is_half_of_all(loser, keeper, is_near):
    assert near([loser, keeper], [1, 0], [0, 1]) == [is_near, False]


def test_a_text_is_compared_beyond_those_that_have_its_rarest_gram():
    own = [f"w{i}" for i in range(60)]
    lures = [" ".join(own[:14] + [f"x{i}y{j}" for j in range(20)]) for i in range(6)]
    found = near([" ".join(own), *lures, " ".join(own[5:])], [1, *[0] * 7], [0, *[1] * 7])
    assert found[0]


def numbered(count, *, alone, common):
    """Texts of `alone` words, which two texts have, before `common` words that all of them have."""
    tail = made([(0, common, 1000)])
    return [" ".join(f"t{i // 2}x{j}" for j in range(alone)) + " " + tail for i in range(count)]


@pytest.mark.parametrize(
    ("alone", "common", "is_near"), [(60, 13, False), (45, 60, False), (10, 90, True)]
)
def test_what_stands_in_every_text_costs_no_look_at_every_pair(alone, common, is_near):
    # 16 million pairs: at 20 microseconds each that would be five minutes.
    texts = numbered(8000, alone=alone, common=common)
    losers = [i % 4 < 2 for i in range(len(texts))]
    keepers = [not own for own in losers]
    started = time.process_time()
    found = near(texts, losers, keepers)
    assert found == [own and is_near for own in losers]
    assert time.process_time() - started < 30
