"""One run as a row of the history."""

from dataclasses import dataclass

UNFINISHED = "unfinished"


@dataclass(frozen=True, slots=True)
class HistoryRow:
    """One run. None where there is no such figure.

    Attributes:
        run: name of the run with attempt.
        recipe: name of the recipe.
        logical_date: logical date of the run.
        attempt: number of the attempt, from 1.
        outcome: how the run ended, as `outcome.json` says; "unfinished" where there is none.
        exit_status: exit status of the driver that ended the run; None where no driver has.
        reason: reason of the outcome, for people.
        ended: end of the run in seconds since 1970, by the store's clock; 0 for an unfinished run.
        verdict: PROMOTE, HOLD or REFUSE; "" where the run was not judged.
        against: reference that was hardest to beat; "" where there was no comparison.
        gain: loss of the reference in `against` minus loss of the fused model.
        gain_low95: lower end of the 95 % interval of the gain.
        gain_high95: upper end of the 95 % interval of the gain.
        loss_fused: loss of the fused model on the gate slice.
        loss_incumbent: loss on the gate slice of the model that was promoted then.
        loss_best: loss on the gate slice of the candidate that was best on the rank slice.
        seconds: seconds that the steps of the run took.
        read_bytes: bytes that the merge read.
        written_bytes: bytes that the merge wrote.
        num_candidates: number of candidates that were found.
        num_kept: number of candidates that were averaged.
        report: key of the report's page; "" for none.
        removed: who removed the run's model, when and why; "" while the model is there.
        problem: what could not be read; "" for nothing. Such a row is read again next time.
        etag: etag of the run's `outcome.json`; "" for none.
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
