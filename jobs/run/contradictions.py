"""Candidates whose config.json says two things about their labels: left out, since one is wrong."""

from dataclasses import replace

from fusion.checkpoints.heads import find_label_conflict
from jobs.candidates.find import Found
from jobs.candidates.skipped import Skipped
from jobs.errors import IncompleteError

HINT = "make the two the inverse of each other, as the model was trained"


def drop_contradicting(found: Found) -> Found:
    """Candidates whose id2label and label2id agree; the others are skipped by name.

    Scores by the one would be of other classes than scores by the other, and no loss would tell.
    """
    said = {c.name: find_label_conflict(c.config) for c in found.candidates}
    dropped = tuple(
        Skipped(
            c.name,
            c.uri,
            IncompleteError.code,
            f"{c.name}/config.json contradicts itself: {said[c.name]}",
            hint=HINT,
        )
        for c in found.candidates
        if said[c.name]
    )
    kept = tuple(c for c in found.candidates if not said[c.name])
    return replace(found, candidates=kept, skipped=found.skipped + dropped)
