"""Score checkpoints on slices: one task each, one row an example, cached by pin and task."""

import contextlib
import logging
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from cluster.errors import ClusterError, FullError, ImportsError, ThrottledError, UnreachableError
from cluster.stores.open_store import open_store
from cluster.stores.outage import waited_out
from cluster.workers.hands import Hands
from cluster.workers.patience import PATIENCE
from cluster.workers.process_memory import peak_bytes
from cluster.workers.runner import Done
from fusion.checkpoints.checkpoint import Checkpoint, checkpoint_digest
from fusion.errors import FusionError
from fusion.scores.records import Records
from jobs.console.figures import Figures, Tell, tell_nobody
from jobs.console.json_log import SILENT, LogTo, current_log, open_log
from jobs.console.secret_texts import mask
from jobs.errors import DataError, JobError, RecipeError, SourceChangedError
from jobs.evaluate.record_files import load_records, score_key
from jobs.tasks.contract import EvaluationTask
from jobs.tasks.slicing import slice_sizes

log = logging.getLogger(__name__)
NOBODYS_FAULT = (SourceChangedError, UnreachableError, ThrottledError, FullError, ImportsError)


@dataclass(frozen=True, slots=True)
class ScoreJob:
    """One checkpoint on one slice; `cache` is the URI of records, `log` how the worker logs."""

    checkpoint: Checkpoint
    slice: str
    task: EvaluationTask
    cache: str
    log: LogTo = SILENT

    @property
    def place(self) -> tuple[str, str]:
        """(checkpoint name, slice)."""
        return self.checkpoint.name, self.slice

    @property
    def unit(self) -> str:
        """What logs call it."""
        return f"{self.checkpoint.name}/{self.slice}"

    @property
    def key(self) -> str:
        """Name of the records in the cache."""
        return score_key(checkpoint_digest(self.checkpoint), self.task.digest, self.slice)


@dataclass(frozen=True, slots=True)
class ScoreResult:
    """What a worker tells; the records themselves are in storage.

    Attributes:
        name: name of the checkpoint.
        slice: name of the slice that was scored.
        key: key of the records in the cache.
        seconds: seconds that loading and predicting took when the records were computed.
        peak_bytes: peak resident memory of the process that computed the records, in bytes.
        num_truncated: number of texts longer than the model reads.
        health: what looks damaged in the tensors; "" for nothing.
        is_cached: whether the records were found in the cache instead of computed.
    """

    name: str
    slice: str
    key: str
    seconds: float
    peak_bytes: int
    num_truncated: int
    health: str
    is_cached: bool

    @property
    def counts(self) -> dict[str, int]:
        """What it adds to counters."""
        return {"evaluations": 1}


@dataclass(frozen=True, slots=True)
class Failure:
    """A candidate that could not be evaluated."""

    name: str
    code: str
    message: str


@dataclass(frozen=True, slots=True, eq=False)
class ScoreBook:
    """Records and results by (checkpoint name, slice), and what failed."""

    records: Mapping[tuple[str, str], Records]
    results: Mapping[tuple[str, str], ScoreResult]
    failures: tuple[Failure, ...]

    @property
    def by_name(self) -> Mapping[str, Records]:
        """Records by the checkpoint's name, of a book of one slice."""
        return {name: found for (name, _), found in self.records.items()}


def score_all(
    checkpoints: Sequence[Checkpoint],
    slices: Sequence[str],
    task: EvaluationTask,
    *,
    cache: str,
    hands: Hands,
    tell: Tell = tell_nobody,
) -> ScoreBook:
    """Score every checkpoint on every slice, in parallel; what was scored before is not redone.

    Args:
        checkpoints: pinned checkpoints with unique names.
        slices: names of the slices.
        task: task with pinned data.
        cache: URI of the folder of records.
        hands: workers that evaluate.
        tell: called with (done, total, figures), first with what was found in the cache, unless
            nothing is missing.

    Raises:
        DataError: the data is wrong for all checkpoints.
        RecipeError: no worker can import the kind of task.
        SourceChangedError: a checkpoint or the data is no longer what was pinned.
        ClusterError: storage or hosts failed, or all evaluations did and none by the fault of its
            checkpoint.
    """
    jobs = [ScoreJob(c, name, task, cache, current_log()) for c in checkpoints for name in slices]
    known = {job.place: found for job in jobs if (found := _load(job)) is not None}
    missing = [job for job in jobs if job.place not in known]
    failures: dict[str, Failure] = {}
    errors: list[Exception] = []
    # What was scored before is not read again.
    sizes = slice_sizes(task.slices) if missing else {}
    at = Figures(total_examples=sum(sizes.get(job.slice, 0) for job in missing))
    if missing:
        tell(len(known), len(jobs), at)
    results = hands.runner.run_tasks(
        score_one, missing, resources=hands.resources, workers=hands.workers
    )
    with contextlib.closing(results):
        for num_found, done in enumerate(results, len(known) + 1):
            job = missing[done.index]
            if done.error is not None:
                _check_machines(done.error, done.worker)
                errors.append(done.error)
                failures[job.checkpoint.name] = _failure(job, done.error)
            elif done.value is not None:
                known[job.place] = (_read(job), done.value)
            at = _after(at, job, done, sizes.get(job.slice, 0))
            tell(num_found, len(jobs), at)
    _check_fault(errors if len(failures) == len(checkpoints) else ())
    return ScoreBook(
        records={place: records for place, (records, _) in known.items()},
        results={place: result for place, (_, result) in known.items()},
        failures=tuple(failures.values()),
    )


def _check_machines(error: Exception, worker: str) -> None:
    """Raise what is no candidate's fault, and would meet the next one as well.

    Raises:
        SourceChangedError, ClusterError: the error, or what stands for it.
    """
    if isinstance(error, NOBODYS_FAULT):
        raise error
    if isinstance(error, ModuleNotFoundError):
        raise ImportsError(
            f"{worker} cannot evaluate: {error}; no candidate is to blame",
            "every host needs the same metafuse and its libraries; the same command continues",
        )


def _failure(job: ScoreJob, error: Exception) -> Failure:
    return Failure(job.checkpoint.name, _code(error), mask(str(error)))


def _check_fault(errors: Sequence[Exception]) -> None:
    """Raise the first of the errors where none is the fault of a candidate."""
    if errors and all(isinstance(e, DataError | RecipeError | ClusterError) for e in errors):
        raise errors[0]


def score_one(job: ScoreJob) -> ScoreResult:
    """Load, predict, record. Runs on a worker. A store that is away for a minute is waited for."""
    from jobs.evaluate.worker import score_checkpoint

    if job.log.is_json:
        open_log(job.log)
    started = time.monotonic()
    health, num_truncated = waited_out(
        lambda: score_checkpoint(
            job.checkpoint, job.slice, job.task, cache=job.cache, key=job.key, started=started
        ),
        PATIENCE.outage_pause,
    )
    seconds = time.monotonic() - started
    log.info("evaluation written", extra={"unit": job.unit, "seconds": round(seconds, 3)})
    return ScoreResult(
        name=job.checkpoint.name,
        slice=job.slice,
        key=job.key,
        seconds=seconds,
        peak_bytes=peak_bytes(),
        num_truncated=num_truncated,
        health=health,
        is_cached=False,
    )


def _after(at: Figures, job: ScoreJob, done: Done[ScoreResult], num_examples: int) -> Figures:
    error = {} if done.error is None else {"code": _code(done.error)}
    log.info(
        "evaluation failed" if error else "evaluation done",
        extra={"unit": job.unit, "worker": done.worker, "seconds": round(done.seconds, 3), **error},
    )
    return Figures(
        num_examples=at.num_examples + num_examples,
        total_examples=at.total_examples,
        num_retried=at.num_retried + done.tries - 1,
        unit=job.checkpoint.name,
        seconds=done.seconds,
        worker=done.worker,
    )


def _load(job: ScoreJob) -> tuple[Records, ScoreResult] | None:
    found = load_records(open_store(job.cache), job.key)
    if found is None:
        return None
    records, facts = found
    if facts.get("checkpoint") != checkpoint_digest(job.checkpoint):
        return None
    if facts.get("task") != job.task.digest or facts.get("slice") != job.slice:
        return None
    result = ScoreResult(
        name=job.checkpoint.name,
        slice=job.slice,
        key=job.key,
        seconds=float(facts["seconds"]),
        peak_bytes=int(facts["peak_bytes"]),
        num_truncated=int(facts["num_truncated"]),
        health=facts["health"],
        is_cached=True,
    )
    return records, result


def _read(job: ScoreJob) -> Records:
    """The records that a worker has just written."""
    found = _load(job)
    assert found is not None
    return found[0]


def _code(error: Exception) -> str:
    if isinstance(error, JobError | FusionError | ClusterError):
        return error.code
    return "E-BUG"
