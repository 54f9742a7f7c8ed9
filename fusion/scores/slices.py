"""Disjoint slices of the evaluation data by a stable hash: an example never moves."""

import hashlib
import hmac
import re
import unicodedata
from collections.abc import Mapping, Sequence

SLICES = ("rank", "select", "gate", "audit")
# Fixed for ever: another key would move examples that earlier models were chosen on into the gate.
KEY = b"metafuse slices 1"
BUCKETS = 1000
GRAM_WORDS = 13
WORD = re.compile(r"\w+")


def canonical_text(text: str) -> str:
    """NFKC, case folded, runs of white space as one blank: what is hashed."""
    return " ".join(unicodedata.normalize("NFKC", text).casefold().split())


def assign_slice(cluster_text: str, shares: Mapping[str, float]) -> str:
    """The slice of a cluster: HMAC-SHA256 of its canonical text, modulo 1000, against the shares.

    Args:
        cluster_text: what binds examples together, such as the document; else the text itself.
        shares: one number a slice, of sum 1.

    Raises:
        ValueError: shares that do not sum to 1.
    """
    total = sum(shares[name] for name in SLICES)
    if abs(total - 1.0) > 1e-9:
        raise ValueError(f"shares sum to {total}, not 1")
    found = hmac.new(KEY, canonical_text(cluster_text).encode(errors="replace"), hashlib.sha256)
    bucket = int.from_bytes(found.digest()[:8], "big") % BUCKETS
    edge = 0.0
    for name in SLICES:
        edge += shares[name] * BUCKETS
        if bucket < round(edge):
            return name
    return next(name for name in reversed(SLICES) if shares[name] > 0)


def find_near_duplicates(texts: Sequence[str], slices: Sequence[str]) -> frozenset[int]:
    """Indices of rank and select examples that nearly repeat one of another slice.

    Two texts nearly repeat each other if they have the same words, or 13 consecutive words in
    common. The gate and audit slices keep theirs; select loses against rank.

    Args:
        texts: n texts.
        slices: n slice names.
    """
    strength = {"gate": 0, "audit": 0, "rank": 1, "select": 2}
    seen: dict[tuple[str, ...], str] = {}
    repeated: set[int] = set()
    for index in sorted(range(len(texts)), key=lambda i: strength[slices[i]]):
        grams = _grams(texts[index])
        own = slices[index]
        if strength[own] and any(seen.get(gram, own) != own for gram in grams):
            repeated.add(index)
            continue
        for gram in grams:
            seen.setdefault(gram, own)
    return frozenset(repeated)


def find_gate_repeats(texts: Sequence[str], slices: Sequence[str]) -> frozenset[int]:
    """Indices of audit examples that nearly repeat one of the gate slice.

    They stay where they are: to report them is enough, as no model is chosen on either slice.

    Args:
        texts: n texts.
        slices: n slice names.
    """
    gate = {
        gram
        for text, own in zip(texts, slices, strict=True)
        if own == "gate"
        for gram in _grams(text)
    }
    return frozenset(
        index
        for index, own in enumerate(slices)
        if own == "audit" and any(gram in gate for gram in _grams(texts[index]))
    )


def _grams(text: str) -> list[tuple[str, ...]]:
    words = tuple(WORD.findall(canonical_text(text)))
    if len(words) <= GRAM_WORDS:
        return [words] if words else []
    return [words[i : i + GRAM_WORDS] for i in range(len(words) - GRAM_WORDS + 1)]
