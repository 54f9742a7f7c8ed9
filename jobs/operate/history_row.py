"""One run as a row of the history."""

from dataclasses import dataclass

UNFINISHED = "unfinished"


@dataclass(frozen=True, slots=True)
class HistoryRow:
    """One run. None where there is no such figure.

    Attributes:
        run: name with attempt.
        recipe: name of the recipe.
        logical_date: the date the run was for.
        attempt: from 1.
        outcome: how it ended, as `outcome.json` says; "unfinished" where there is none.
        exit_status: of the driver that ended it.
        reason: for people.
        ended: when, in seconds since 1970, by the store's clock; 0 for an unfinished run.
        verdict: PROMOTE, HOLD or REFUSE; "" where it was not judged.
        against: what was hardest to beat.
        gain: loss of that minus loss of the fused model.
        gain_low95: lower end of its 95 % interval.
        gain_high95: upper end.
        loss_fused: on the gate slice, as the two below.
        loss_incumbent: of the model that was promoted then.
        loss_best: of the candidate that was best on the rank slice.
        seconds: that its steps took.
        read_bytes: by the merge.
        written_bytes: by the merge.
        num_candidates: that were found.
        num_kept: that were averaged.
        report: key of the report's page, "" for none.
        removed: who removed its model, when and why, "" while it is there.
        problem: what could not be read, "" for nothing; such a row is read again next time.
        etag: of outcome.json.
    """

    run: str
    recipe: str = ""
    logical_date: str = ""
    attempt: int = 0
    outcome: str = UNFINISHED
    exit_status: int | None = None
    reason: str = ""
    ended: float = 0.0
    verdict: str = ""
    against: str = ""
    gain: float | None = None
    gain_low95: float | None = None
    gain_high95: float | None = None
    loss_fused: float | None = None
    loss_incumbent: float | None = None
    loss_best: float | None = None
    seconds: float | None = None
    read_bytes: int | None = None
    written_bytes: int | None = None
    num_candidates: int | None = None
    num_kept: int | None = None
    report: str = ""
    removed: str = ""
    problem: str = ""
    etag: str = ""
