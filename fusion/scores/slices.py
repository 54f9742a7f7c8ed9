"""Disjoint slices of the evaluation data by a stable hash: an example never moves."""

import hashlib
import hmac
import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from fusion.scores.canonical_text import canonical_text
from fusion.scores.near_duplicates import collect_grams, find_near

SLICES = ("rank", "select", "gate", "audit")
# Fixed for ever: another key would move examples that earlier models were chosen on into the gate.
KEY = b"metafuse slices 1"
BUCKETS = 1000


@dataclass(frozen=True, slots=True)
class Repeats:
    """Examples that nearly repeat one of another slice, by index, ascending.

    Attributes:
        dropped: examples of rank and select that are dropped; they belong to no slice.
        shared: examples of audit that nearly repeat one of gate. They stay in audit: to report them
            is enough, as no model is chosen on either slice.
    """

    dropped: tuple[int, ...]
    shared: tuple[int, ...]


def assign_slice(cluster_text: str, shares: Mapping[str, float]) -> str:
    """The slice of a cluster: HMAC-SHA256 of its canonical text, modulo 1000, against the shares.

    Args:
        cluster_text: text of what binds examples together, such as the document; else the example's
            text.
        shares: share of each slice by its name, of sum 1.

    Raises:
        ValueError: shares that do not sum to 1.
    """
    total = sum(shares[name] for name in SLICES)
    if abs(total - 1.0) > 1e-9:
        raise ValueError(f"shares sum to {total}, not 1")
    found = hmac.new(KEY, canonical_text(cluster_text).encode(errors="replace"), hashlib.sha256)
    bucket = int.from_bytes(found.digest()[:8], "big") % BUCKETS
    # The last edge is BUCKETS, above every bucket.
    edges = itertools.accumulate(shares[name] * BUCKETS for name in SLICES)
    return next(name for name, edge in zip(SLICES, edges, strict=True) if bucket < round(edge))


def find_repeats(texts: Sequence[str], slices: Sequence[str]) -> Repeats:
    """Seek texts that share most of their 13-grams with a text of another slice.

    Most: the Jaccard index of the two sets of grams is at least 0.5, so that one signature in all
    texts drops none. A text of at most 13 words has one gram, all its words. Gate and audit keep
    theirs; select loses against what is left of rank.

    Args:
        texts: n texts.
        slices: slice name of each of the n texts.
    """
    grams = collect_grams(texts)
    where = np.array(slices, dtype=np.str_)
    rank, select, gate, audit = (where == name for name in SLICES)
    dropped = find_near(grams, rank | select, gate | audit)
    dropped |= find_near(grams, select & ~dropped, rank & ~dropped)
    shared = find_near(grams, audit, gate)
    return Repeats(tuple(np.flatnonzero(dropped).tolist()), tuple(np.flatnonzero(shared).tolist()))
