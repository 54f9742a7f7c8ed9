"""Names of models as figures show them: short, and still told from one another."""

import re
from collections.abc import Mapping, Sequence
from itertools import pairwise

CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\ud800-\udfff]")


def shorten_names(names: Sequence[str], longest: int) -> Mapping[str, str]:
    """Every name without control characters, in at most so many characters.

    A long name keeps its beginning and the place where it first differs from the name that it is
    most like: of "bert-base-uncased-seed-1" and "bert-base-uncased-seed-2" the figure stays.

    Args:
        names: names of one figure.
        longest: number of characters that there is room for; at least 8.
    """
    cleaned = {name: CONTROL.sub("\ufffd", name) for name in names}
    ordered = sorted({text for text in cleaned.values() if len(text) > longest})
    differs = dict.fromkeys(ordered, 0)
    for one, other in pairwise(ordered):
        shared = _shared(one, other)
        differs[one], differs[other] = max(differs[one], shared), shared
    return {
        name: _cut(text, differs[text], longest) if text in differs else text
        for name, text in cleaned.items()
    }


def _shared(one: str, other: str) -> int:
    """Number of characters with which both begin."""
    pairs = enumerate(zip(one, other, strict=False))
    return next((place for place, (a, b) in pairs if a != b), min(len(one), len(other)))


def _cut(text: str, place: int, longest: int) -> str:
    """A long text in `longest` characters, among them that at `place`."""
    if place < longest - 1:
        return text[: longest - 1] + "…"
    head = longest // 3
    room = longest - head - 1
    start = min(place - room // 4, len(text) - room)
    shown = text[start : start + room]
    end = "" if start + room == len(text) else "…"
    return text[:head] + "…" + shown[: room - len(end)] + end
