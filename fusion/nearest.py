"""What a word that is not known may have been meant to be."""

import difflib
from collections.abc import Iterable


def find_near(
    word: str, names: Iterable[str], *, count: int = 1, likeness: float = 0.6
) -> list[str]:
    """The known names that are most like a word, best first; case and blanks around do not count.

    Args:
        word: what was written.
        names: what could have been meant.
        count: number of names at most.
        likeness: least share of equal letters, from 0 to 1 (Ratcliff and Metzener 1988, Pattern
            matching: the gestalt approach, as `difflib` computes it).
    """
    folded: dict[str, str] = {}
    for name in names:
        folded.setdefault(_fold(name), name)
    near = difflib.get_close_matches(_fold(word), folded, n=count, cutoff=likeness)
    return [folded[name] for name in near]


def ask_meant(word: str, names: Iterable[str], *, likeness: float = 0.6) -> str:
    """The end of a sentence that asks whether the nearest name was meant; "" where none is near."""
    near = find_near(word, names, likeness=likeness)
    return f"; did you mean {near[0]!r}?" if near else ""


def _fold(word: str) -> str:
    return word.strip().casefold()
