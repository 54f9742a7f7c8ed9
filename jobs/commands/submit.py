"""What the verbs of a Ray cluster do and show."""

from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cluster.errors import ClusterError, RunnerError
from cluster.ray.address import find_jobs_address
from jobs.commands.run import check_date
from jobs.console.show import note, show, show_json, warn
from jobs.errors import InterruptedRunError, UsageError
from jobs.exits import DONE, HELD, NOTHING_NEW, REFUSED
from jobs.notify.follow_up import tell_for_the_driver
from jobs.submit.submit import Submission, exit_status, find_local_places, load_submission, submit

if TYPE_CHECKING:
    from cluster.ray.jobs_api import Job, JobsApi

# Ray calls a job failed whose driver says any of these but the first.
MEANINGS = {
    DONE: "done or promoted", NOTHING_NEW: "nothing new", HELD: "held", REFUSED: "not decided",
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class SubmitOptions:
    """How a recipe is handed to a cluster.

    Attributes:
        logical_date: logical date of the run; None for today.
        submission_id: id of the job; "" makes one from recipe and date.
        runtime_env: file with Ray's runtime environment; None for none.
        with_code: whether our packages travel with the job.
        num_cpus: CPUs reserved for the driver.
        is_waiting: whether the command waits for the end of the job.
    """

    logical_date: str | None
    submission_id: str
    runtime_env: Path | None
    with_code: bool
    num_cpus: float
    is_waiting: bool


def run_submit(path: Path, address: str | None, *, options: SubmitOptions, as_json: bool) -> int:
    """`metafuse submit`."""
    date = options.logical_date or datetime.now(UTC).date().isoformat()
    check_date(date)
    where = _address(address)
    submission = load_submission(
        path, date, submission_id=options.submission_id, with_code=options.with_code,
        num_cpus=options.num_cpus, runtime_env=options.runtime_env,
    )  # fmt: skip
    for place in find_local_places(submission.recipe):
        warn(f"{place} must be the same folder on every host of the cluster")
    try:
        api = _connect(where)
        job_id = _submit(api, submission, where)
        if not options.is_waiting:
            _show_submitted(job_id, where, as_json=as_json)
            return 0
        return _wait(api, job_id, where, path=path, date=date, as_json=as_json)
    except ClusterError as error:
        tell_for_the_driver(submission.recipe, date, error)
        raise


def show_logs(job_id: str, address: str | None, *, is_following: bool, as_json: bool) -> int:
    """`metafuse logs`."""
    from cluster.ray.jobs_api import read_log, wait_for_job

    where = _address(address)
    api = _connect(where)
    job = _known(api, job_id, where)
    lines: list[str] = []
    say = lines.append if as_json else show
    if is_following:
        job = wait_for_job(api, job_id, on_line=say)
    else:
        for line in read_log(api, job_id).splitlines():
            say(line)
    if as_json:
        show_json({**_described(job), "log": "\n".join(lines)})
    return exit_status(job) if is_following else 0


def run_stop(job_id: str, address: str | None, *, reason: str, as_json: bool) -> int:
    """`metafuse stop`."""
    from cluster.ray.jobs_api import stop_job, wait_for_job

    where = _address(address)
    api = _connect(where)
    job = _known(api, job_id, where)
    if not job.has_ended:
        note(f"stopping {job_id}" + (f": {reason}" if reason else ""))
        stop_job(api, job_id)
        job = wait_for_job(api, job_id, on_line=lambda _: None)
    if as_json:
        show_json(_described(job))
    else:
        show(f"{job_id}  {job.status}")
    return 0


def show_job(job_id: str | None, address: str, *, as_json: bool) -> int:
    """`metafuse status` of a job, or of all jobs of a cluster."""
    from cluster.ray.jobs_api import list_jobs

    where = _address(address)
    api = _connect(where)
    found = list_jobs(api) if job_id is None else (_known(api, job_id, where),)
    found = tuple(sorted(found, key=lambda job: job.started or 0.0))
    if as_json:
        described = [_described(job) for job in found]
        show_json({"jobs": described} if job_id is None else described[0])
        return 0
    if not found:
        show(f"no jobs at {where} since its head started")
    for job in found:
        code = "" if job.exit_code is None else f"  exit status {job.exit_code}"
        show(f"{job.id}  {job.status}{code}  {_times(job)}".rstrip())
        if job.message and job_id is not None:
            show(job.message)
    return 0


def _submit(api: "JobsApi", submission: Submission, where: str) -> str:
    submitted = submit(api, submission)
    note(f"{submitted.id}  {'submitted to' if submitted.is_new else 'is there already at'} {where}")
    return submitted.id


def _wait(api: "JobsApi", job_id: str, where: str, *, path: Path, date: str, as_json: bool) -> int:
    from cluster.ray.jobs_api import wait_for_job

    def tell(job: "Job") -> None:
        waits = f": {job.message}" if job.status == "PENDING" and job.message else ""
        note(f"{job.id}  {job.status}{waits}")

    try:
        job = wait_for_job(api, job_id, on_line=note, on_status=tell)
    except KeyboardInterrupt:
        raise InterruptedRunError(
            f"the waiting was stopped, not the job: {job_id} goes on at {where}",
            f"metafuse submit {path} --date {date} --address {where} waits for it again; "
            f"metafuse stop {job_id} --address {where} ends it",
        ) from None
    except RunnerError as error:
        error.hint = f"the same metafuse submit waits for {job_id} again, or continues its run"
        raise
    status = exit_status(job)
    if as_json:
        show_json({**_described(job), "address": where, "exit_status": status})
    else:
        meaning = f": {MEANINGS[status]}" if status in MEANINGS else ""
        show(f"{job_id}  {job.status}  exit status {status}{meaning}")
        if status not in MEANINGS:
            hint = f"metafuse logs {job_id} --address {where} says why and what to do"
            note(f"hint     {hint}; the same metafuse submit continues")
    return status


def _show_submitted(job_id: str, where: str, *, as_json: bool) -> None:
    if as_json:
        show_json({"submission_id": job_id, "address": where})
        return
    show(job_id)
    note(f"metafuse logs --follow {job_id} --address {where} shows it to the end")


def _address(address: str | None) -> str:
    found = find_jobs_address(address)
    if found is None:
        raise UsageError(
            "no cluster is named: --address http://head:8265 or RAY_API_SERVER_ADDRESS is needed",
            "metafuse run RECIPE needs no cluster",
        )
    return found


def _connect(where: str) -> "JobsApi":
    from cluster.ray.jobs_api import connect

    return connect(where)


def _known(api: "JobsApi", job_id: str, where: str) -> "Job":
    from cluster.ray.jobs_api import find_job

    job = find_job(api, job_id)
    if job is None:
        raise RunnerError(
            f"the cluster at {where} knows no job {job_id}",
            f"metafuse status --address {where} lists its jobs; a head that is restarted forgets "
            "them, the runs' outputs do not: metafuse status OUTPUT",
        )
    return job


def _described(job: "Job") -> dict[str, Any]:
    return {
        "submission_id": job.id,
        "status": job.status,
        "driver_exit_code": job.exit_code,
        "message": job.message,
        "started": job.started,
        "ended": job.ended,
    }


def _times(job: "Job") -> str:
    texts = []
    for word, seconds in (("started", job.started), ("ended", job.ended)):
        with suppress(TypeError):
            moment = datetime.fromtimestamp(seconds, UTC)  # type: ignore[arg-type]
            texts.append(f"{word} {moment:%Y-%m-%d %H:%M:%SZ}")
    return ", ".join(texts)
