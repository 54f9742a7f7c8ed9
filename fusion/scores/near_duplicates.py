"""Texts that share most of their 13-grams: exact up to hashing, without a look at every pair.

A set of grams is kept as 8-byte hashes, and of these only what at least two texts have. One order
of all grams, the rarest first, makes a phrase that stands in every text the last to be looked at.
"""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from fusion.scores.canonical_text import canonical_text

GRAM_WORDS = 13
WORD = re.compile(r"\w+")
# Letters hashed at a time: 1 MiB of text takes about 60 MiB while it is hashed.
BLOCK_LETTERS = 1 << 20
# Pairs of texts compared at a time, and gram look-ups of such comparisons: about 40 bytes each.
BLOCK_PAIRS = 1 << 20
# Most texts that nearly repeat another are settled by so few pairs; the rest looks at all of them.
FIRST_PAIRS = 2
# An odd multiplier has an inverse modulo 2**64, so that sums over a prefix give the hash of a span.
MULTIPLIER = 0x9E3779B97F4A7C15
INVERSE = pow(MULTIPLIER, -1, 1 << 64)

Integers = npt.NDArray[np.int64]
Hashes = npt.NDArray[np.uint64]
Flags = npt.NDArray[np.bool_]


@dataclass(frozen=True, slots=True, eq=False)
class GramSets:
    """The sets of 13-grams of n texts; a text of at most 13 words has one gram, all of it.

    Attributes:
        sizes: [n] number of distinct grams of each text, 0 for a text without a word.
        starts: [n + 1] index in `ranks` where each text's entries begin.
        ranks: [m] ranks of the grams that at least two texts have, ascending in each text. Grams
            rank by the number of texts that have them, then by hash; grams of one text alone come
            before them.
    """

    sizes: Integers
    starts: Integers
    ranks: npt.NDArray[np.int32]


@dataclass(frozen=True, slots=True, eq=False)
class _Entries:
    """Places where a pair of near-duplicates may have its first gram in common.

    Attributes:
        texts: [k] index of the text.
        ranks: [k] rank of the gram.
        sizes: [k] size of the text's set of grams.
        reach: [k] size of the largest set that can still be near, if no rarer gram is shared.
    """

    texts: Integers
    ranks: Integers
    sizes: Integers
    reach: Integers

    def take(self, rows: npt.NDArray[np.intp] | Flags) -> "_Entries":
        return _Entries(self.texts[rows], self.ranks[rows], self.sizes[rows], self.reach[rows])


def collect_grams(texts: Sequence[str], *, block_letters: int = BLOCK_LETTERS) -> GramSets:
    """Hash the grams of all texts and keep what may be shared.

    Memory: 16 bytes a word at most, beside a block. Two different grams have one hash with
    probability 2**-64; among 2e7 grams any two of them with 1e-5.

    Args:
        texts: n texts; letter case, white space and punctuation do not matter.
        block_letters: letters that are hashed at a time.
    """
    hashed, sizes = [], []
    for block in _blocks(texts, block_letters):
        found, counts = _hash_sets(block)
        hashed.append(found)
        sizes.append(counts)
    ordered = np.concatenate([np.zeros(0, np.uint64), *hashed])
    ordered.sort()
    shared, others = np.unique(ordered[1:][ordered[1:] == ordered[:-1]], return_counts=True)
    del ordered
    rank_of = np.empty(len(shared), dtype=np.int32)
    rank_of[np.lexsort((shared, others))] = np.arange(len(shared), dtype=np.int32)
    ranks, lengths = [], []
    for found, counts in zip(hashed, sizes, strict=True):
        place = np.searchsorted(shared, found)
        known = place < len(shared)
        known[known] = shared[place[known]] == found[known]
        owners = np.repeat(np.arange(len(counts)), counts)[known]
        own = rank_of[place[known]]
        ranks.append(own[np.lexsort((own, owners))])
        lengths.append(np.bincount(owners, minlength=len(counts)))
    return GramSets(
        sizes=np.concatenate([np.zeros(0, np.int64), *sizes]),
        starts=np.cumsum(np.concatenate([np.zeros(1, np.int64), *lengths])),
        ranks=np.concatenate([np.zeros(0, np.int32), *ranks]),
    )


def find_near(
    grams: GramSets, losers: Flags, keepers: Flags, *, block_pairs: int = BLOCK_PAIRS
) -> Flags:
    """Which of the losers nearly repeat a keeper: Jaccard index of their gram sets at least 0.5.

    With x and y grams that is 3 |both| >= x + y. If the first gram in common (in the one order of
    all grams) is number i of x, from 0, at most x - i can be shared, so y <= 2 x - 3 i; likewise
    for y. Only such places are paired, and every such pair is counted out.

    Args:
        grams: sets of grams of n texts.
        losers: [n] true for texts that are asked about.
        keepers: [n] true for texts that losers are compared with; no text is both.
        block_pairs: pairs that are compared at a time.

    Returns:
        [n] true for losers near a keeper.

    Source: Xiao, Wang, Lin, Yu 2008, Efficient similarity joins for near duplicate detection
    (PPJoin), sections 3 and 4.
    """
    near = np.zeros(len(grams.sizes), dtype=np.bool_)
    index = _entries(grams, keepers)
    width = int(grams.sizes.max(initial=0)) * 2 + 1
    index = index.take(np.argsort(index.ranks * width + index.sizes, kind="stable"))
    keys = index.ranks * width + index.sizes
    asked = _entries(grams, losers)
    low = np.searchsorted(keys, asked.ranks * width + (asked.sizes + 1) // 2)
    high = np.searchsorted(keys, asked.ranks * width + asked.reach, side="right")
    has_any = high > low
    asked, low, counts = asked.take(has_any), low[has_any], (high - low)[has_any]
    if not len(counts):
        return near
    entry_keys, lengths = _entry_keys(grams), np.diff(grams.starts)
    first = np.unique(asked.texts, return_index=True)[1]
    for rows, most in ((first, FIRST_PAIRS), (np.arange(len(counts)), len(near))):
        for block in _cut(rows, np.minimum(counts[rows], most), block_pairs):
            left = block[~near[asked.texts[block]]]
            pairs = _pairs(asked.take(left), index, low[left], np.minimum(counts[left], most))
            for some in _cut(np.arange(len(pairs)), lengths[pairs[:, 0]], block_pairs):
                _mark(near, grams, entry_keys, pairs[some])
    return near


def _mark(near: Flags, grams: GramSets, entry_keys: Integers, pairs: Integers) -> None:
    """Count the grams in common of pairs [k, 2] and mark those losers that are near."""
    loser, keeper = pairs[:, 0], pairs[:, 1]
    lengths = np.diff(grams.starts)[loser]
    owner = np.repeat(np.arange(len(pairs)), lengths)
    place = _ranges(grams.starts[loser], lengths)
    wanted = keeper[owner] * (len(grams.ranks) + 1) + grams.ranks[place]
    found = np.searchsorted(entry_keys, wanted)
    found[found == len(entry_keys)] = 0
    both = np.bincount(owner[entry_keys[found] == wanted], minlength=len(pairs))
    near[loser[3 * both >= grams.sizes[loser] + grams.sizes[keeper]]] = True


def _pairs(asked: _Entries, index: _Entries, low: Integers, counts: Integers) -> Integers:
    """Distinct (loser, keeper) [k, 2] that may be near by their places."""
    rows = np.repeat(np.arange(len(counts)), counts)
    keepers = _ranges(low, counts)
    may = index.reach[keepers] >= asked.sizes[rows]
    loser, keeper = asked.texts[rows[may]], index.texts[keepers[may]]
    base = int(keeper.max(initial=0)) + 1
    codes = np.unique(loser * base + keeper)
    return np.stack([codes // base, codes % base], axis=1)


def _entries(grams: GramSets, chosen: Flags) -> _Entries:
    lengths = np.diff(grams.starts)
    texts = np.flatnonzero(chosen & (lengths > 0))
    owners = np.repeat(texts, lengths[texts])
    place = _ranges(grams.starts[texts], lengths[texts])
    sizes = grams.sizes[owners]
    # The grams that a text has alone come first.
    positions = sizes - lengths[owners] + place - grams.starts[owners]
    reach = 2 * sizes - 3 * positions
    # No set under half the size is near.
    useful = 2 * reach >= sizes
    found = _Entries(owners, grams.ranks[place].astype(np.int64), sizes, reach)
    return found.take(useful)


def _entry_keys(grams: GramSets) -> Integers:
    """[m] text and rank of every entry as one number, ascending."""
    owners = np.repeat(np.arange(len(grams.sizes)), np.diff(grams.starts))
    return owners * (len(grams.ranks) + 1) + grams.ranks


def _cut(rows: npt.NDArray[np.intp], costs: Integers, most: int) -> Iterator[npt.NDArray[np.intp]]:
    """Rows in pieces of about `most` in cost."""
    if len(rows):
        block = (np.cumsum(costs) - costs) // most
        yield from np.split(rows, np.flatnonzero(np.diff(block)) + 1)


def _ranges(starts: Integers, lengths: Integers) -> Integers:
    """start, start + 1, ... of every range, one after another."""
    ends = np.cumsum(lengths)
    total = int(ends[-1]) if len(ends) else 0
    return np.arange(total) + np.repeat(starts - ends + lengths, lengths)


def _blocks(texts: Sequence[str], block_letters: int) -> Iterator[list[str]]:
    block: list[str] = []
    num_letters = 0
    for text in texts:
        block.append(text)
        num_letters += len(text)
        if num_letters >= block_letters:
            yield block
            block, num_letters = [], 0
    if block:
        yield block


def _hash_sets(texts: Sequence[str]) -> tuple[Hashes, Integers]:
    """Distinct gram hashes text by text, and how many each text has."""
    words = [WORD.findall(canonical_text(text)) for text in texts]
    num_words = np.array([len(own) for own in words], dtype=np.int64)
    line = " ".join(" ".join(own) for own in words if own)
    letters = np.frombuffer(line.encode(), dtype=np.uint8)
    num_grams = np.where(num_words > 0, np.maximum(num_words - GRAM_WORDS + 1, 1), 0)
    owners = np.repeat(np.arange(len(texts)), num_grams)
    ends_of_texts = np.cumsum(num_words)
    first = _ranges(ends_of_texts - num_words, num_grams)
    last = np.minimum(first + GRAM_WORDS, ends_of_texts[owners]) - 1
    hashes = _hash_spans(letters, first, last)
    order = np.lexsort((hashes, owners))
    hashes, owners = hashes[order], owners[order]
    is_new = np.ones(len(hashes), dtype=np.bool_)
    is_new[1:] = (hashes[1:] != hashes[:-1]) | (owners[1:] != owners[:-1])
    return hashes[is_new], np.bincount(owners[is_new], minlength=len(texts))


def _hash_spans(letters: npt.NDArray[np.uint8], first: Integers, last: Integers) -> Hashes:
    """Hashes of runs of words: a polynomial in MULTIPLIER over mixed bytes, modulo 2**64.

    Args:
        letters: words in UTF-8 with one blank between them.
        first: [k] number of each run's first word.
        last: [k] number of each run's last word.
    """
    blanks = np.flatnonzero(letters == ord(" "))
    starts = np.concatenate([np.zeros(1, np.int64), blanks + 1])[first]
    ends = np.concatenate([blanks, np.array([len(letters)])])[last]
    sums = np.zeros(len(letters) + 1, dtype=np.uint64)
    np.cumsum(_mixed_bytes()[letters] * _powers(MULTIPLIER, len(letters)), out=sums[1:])
    hashes: Hashes = (sums[ends] - sums[starts]) * _powers(INVERSE, len(letters) + 1)[starts]
    return hashes


def _powers(factor: int, count: int) -> Hashes:
    """factor**0, factor**1, ... modulo 2**64."""
    powers: Hashes = np.full(count, factor, dtype=np.uint64)
    powers[:1] = 1
    np.cumprod(powers, out=powers)
    return powers


def _mixed_bytes() -> Hashes:
    """A number without pattern for each of the 256 bytes.

    Source: Steele, Lea, Flood 2014, Fast splittable pseudorandom number generators (SplitMix64).
    """
    mixed: Hashes = np.arange(1, 257, dtype=np.uint64) * np.uint64(MULTIPLIER)
    mixed = (mixed ^ (mixed >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    mixed = (mixed ^ (mixed >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return mixed ^ (mixed >> np.uint64(31))
