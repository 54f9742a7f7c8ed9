"""Slices: where an example goes, and which of two near-duplicates is left out."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fusion.scores.canonical_text import canonical_text
from fusion.scores.slices import SLICES, Repeats, assign_slice, find_repeats
from tests.fusion.scores.test_near_duplicates import TEXTS, plain_near

SHARES = {"rank": 0.3, "select": 0.2, "gate": 0.4, "audit": 0.1}


def test_slices_have_their_shares_and_never_move():
    found = [assign_slice(f"text {i}", SHARES) for i in range(4000)]
    for name in SLICES:
        assert found.count(name) / 4000 == pytest.approx(SHARES[name], abs=0.03)
    assert found[:6] == ["gate", "rank", "gate", "rank", "rank", "audit"]


@given(st.text(max_size=40))
def test_case_and_space_do_not_change_the_slice(text):
    assert assign_slice(f"  {text} ", SHARES) == assign_slice(text, SHARES)
    assert canonical_text(text.upper().casefold()) == canonical_text(canonical_text(text.upper()))


def test_shares_must_sum_to_one():
    with pytest.raises(ValueError, match="sum"):
        assign_slice("x", {**SHARES, "gate": 0.5})


def plain_repeats(texts, slices):
    """Gate and audit first, then rank against them, then select against all that are left."""

    def is_in(*names):
        return [name in names for name in slices]

    rank = plain_near(texts, is_in("rank"), is_in("gate", "audit"))
    left = [name == "rank" and not gone for name, gone in zip(slices, rank, strict=True)]
    keepers = [a or b for a, b in zip(is_in("gate", "audit"), left, strict=True)]
    select = plain_near(texts, is_in("select"), keepers)
    shared = plain_near(texts, is_in("audit"), is_in("gate"))
    return Repeats(
        tuple(i for i in range(len(texts)) if rank[i] or select[i]),
        tuple(i for i in range(len(texts)) if shared[i]),
    )


@settings(max_examples=200, deadline=None)
@given(st.lists(st.tuples(TEXTS, st.sampled_from(SLICES)), max_size=14))
def test_repeats_are_what_a_look_at_every_pair_finds(cases):
    texts, slices = [text for text, _ in cases], [name for _, name in cases]
    assert find_repeats(texts, slices) == plain_repeats(texts, slices)


def test_one_signature_in_all_texts_drops_none():
    signature = "sent from my phone please excuse the brevity of this message and its typos"
    texts = [" ".join(f"w{i}x{j}" for j in range(20)) + f" {signature}" for i in range(40)]
    assert len(signature.split()) > 13
    assert find_repeats(texts, [SLICES[i % 4] for i in range(40)]) == Repeats((), ())


def test_select_does_not_lose_against_what_rank_has_lost():
    words = [f"w{i}" for i in range(60)]
    gate, rank, select = (" ".join(words[start : start + 40]) for start in (0, 8, 16))
    assert find_repeats([gate, rank, select], ["gate", "rank", "select"]).dropped == (1,)
    assert find_repeats([rank, select], ["rank", "select"]).dropped == (1,)


def test_what_audit_has_in_common_with_the_gate_is_found_and_left_there():
    words = " ".join(f"w{i}" for i in range(20))
    texts = [f"{words} one", f"{words} two", "a b c", "A  b c.", f"{words} three"]
    slices = ["gate", "audit", "audit", "rank", "rank"]
    assert find_repeats(texts, slices) == Repeats(dropped=(3, 4), shared=(1,))
