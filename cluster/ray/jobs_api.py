"""Jobs on a Ray cluster, over its Jobs API: submit, look, wait, read the log, stop.

Whether a job has ended is asked from its status. Ray's tail of a log can end early and lose lines,
so the log is fetched anew, from where the last reading ended.
"""

import logging
import math
import os
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")

import requests
from ray.exceptions import AuthenticationError
from ray.job_submission import JobSubmissionClient

from cluster.errors import ClusterAwayError, RunnerError, first_line
from cluster.ray.address import Token, check_jobs_reachable, find_token
from cluster.workers.patience import PATIENCE, Patience

# They tell of every package that is uploaded.
for _name in ("dashboard.modules.dashboard_sdk", "dashboard.modules.job.sdk",
              "_private.runtime_env.packaging"):  # fmt: skip
    logging.getLogger(f"ray.{_name}").setLevel(logging.WARNING)

REQUEST_SECONDS = 30.0
# Ray looks after a job so often until it sees its end.
RAY_LOOKS_SECONDS = 1.0
# A log is read whole each time: a large one more seldom.
LOG_CHARACTERS_A_SECOND = 100_000
DELETE_TRIES = 3
ENDED = ("SUCCEEDED", "FAILED", "STOPPED")
HOW_TO_GET_IN = (
    "put the cluster's token into a file that you alone can read (mode 0600) and name it by "
    "RAY_AUTH_TOKEN_PATH; who runs the cluster gets the token by `ray get-auth-token`"
)


@dataclass(frozen=True, slots=True)
class Job:
    """What Ray knows about a job.

    Attributes:
        id: submission id of the job.
        status: PENDING, RUNNING, SUCCEEDED, FAILED or STOPPED.
        message: why the job waits or failed; the end of its log where it failed.
        exit_code: exit status of the driver; None while it runs, and where it never started or was
            stopped.
        metadata: metadata that the job was submitted with.
        started: start of the job, seconds since 1970; None where Ray does not say.
        ended: end of the job, seconds since 1970; None where Ray does not say.
    """

    id: str
    status: str
    message: str = ""
    exit_code: int | None = None
    metadata: Mapping[str, str] = field(default_factory=dict)
    started: float | None = None
    ended: float | None = None

    @property
    def has_ended(self) -> bool:
        """Whether its status is final."""
        return self.status in ENDED


class JobsApi(JobSubmissionClient):  # type: ignore[misc]  # ray has no types
    """Ray's client; none of its requests waits for ever, and its errors are ours."""

    def __init__(self, address: str, token: Token | None) -> None:
        """Connect, and see that the cluster answers and takes the token.

        Raises:
            RunnerError: the cluster does not answer, or refuses the token.
        """
        self._where = address
        self._token = token
        headers = {} if token is None else {"Authorization": f"Bearer {token.text}"}
        with _address_alone(address):
            super().__init__(address, headers=headers)

    def _do_request(self, method: str, endpoint: str, **more: Any) -> Any:
        more.setdefault("timeout", REQUEST_SECONDS)
        try:
            return super()._do_request(method, endpoint, **more)
        except AuthenticationError as error:
            raise _refused(self._where, self._token, str(error)) from None
        except requests.RequestException as error:
            raise ClusterAwayError(
                f"the Jobs API at {self._where} does not answer: {type(error).__name__}",
                "check --address and the network, then run the same command again",
            ) from None


def connect(address: str) -> JobsApi:
    """The Jobs API at http://host:port, with the token that is found where Ray looks for it.

    Raises:
        RunnerError: nothing answers there, or it wants another token; the message says which.
    """
    token = find_token()
    check_jobs_reachable(address)
    try:
        return JobsApi(address, token)
    except (RuntimeError, ValueError, ConnectionError) as error:
        raise RunnerError(
            f"{address} does not answer as a Jobs API does: {first_line(error)[:300]}",
            "name the head's dashboard, http://host:8265, by --address",
        ) from None


def find_anonymous_status(address: str) -> int:
    """The HTTP status that a client without a token gets when it asks for the jobs: 200, 401 ...

    Raises:
        ClusterAwayError: the cluster does not answer.
    """
    try:
        return requests.get(f"{address}/api/jobs/", timeout=REQUEST_SECONDS).status_code
    except requests.RequestException as error:
        raise ClusterAwayError(
            f"the Jobs API at {address} does not answer: {type(error).__name__}"
        ) from None


def find_job(api: JobsApi, job_id: str) -> Job | None:
    """The job of a submission id; None if the cluster does not know it.

    Raises:
        ClusterAwayError: the cluster does not answer, or not as it should.
    """
    try:
        return _job(api.get_job_info(job_id))
    except RuntimeError as error:
        if "status code 404" in str(error):
            return None
        # A head that is coming back answers before it knows its jobs.
        raise ClusterAwayError(f"asking for {job_id}: {_last_line(error)}") from None


def list_jobs(api: JobsApi) -> tuple[Job, ...]:
    """All jobs that were submitted since the head started.

    Raises:
        RunnerError: the cluster does not answer.
    """
    try:
        # Ray lists a job's driver too, even when the job was deleted.
        return tuple(_job(entry) for entry in api.list_jobs() if entry.type == "SUBMISSION")
    except RuntimeError as error:
        raise _failed(error, "listing the jobs") from None


def submit_job(
    api: JobsApi,
    job_id: str,
    *,
    entrypoint: str,
    runtime_env: Mapping[str, Any],
    metadata: Mapping[str, str],
    num_cpus: float = 0.0,
) -> bool:
    """Submit a job, unless its id is taken.

    Args:
        api: jobs API of the cluster.
        job_id: submission id; the first caller that submits it gets it.
        entrypoint: shell command that the job runs.
        runtime_env: runtime environment as Ray takes it; Ray uploads local folders in it.
        metadata: kept with the job; every user who may list jobs can read it.
        num_cpus: CPUs reserved for the driver; 0 runs the driver on the head.

    Returns:
        False if there was a job of this id already.

    Raises:
        RunnerError: the cluster refused it or does not answer.
    """
    try:
        api.submit_job(
            entrypoint=entrypoint,
            submission_id=job_id,
            runtime_env=dict(runtime_env),
            metadata=dict(metadata),
            entrypoint_num_cpus=num_cpus or None,
        )
    except (RuntimeError, ValueError, TypeError) as error:
        if "already exists" in str(error):
            return False
        raise _failed(error, f"submitting {job_id}") from None
    return True


def stop_job(api: JobsApi, job_id: str) -> bool:
    """Ask a job to end: SIGTERM, and SIGKILL 3 s later. False if it had ended before.

    Raises:
        RunnerError: the cluster does not know it or does not answer.
    """
    try:
        return bool(api.stop_job(job_id))
    except RuntimeError as error:
        raise _failed(error, f"stopping {job_id}") from None


def delete_job(api: JobsApi, job_id: str, *, sleep: Callable[[float], None] = time.sleep) -> None:
    """Forget a job that has ended. Takes some seconds.

    Raises:
        RunnerError: the job has not ended, or the cluster does not answer.
    """
    for _ in range(DELETE_TRIES):
        try:
            api.delete_job(job_id)
        except RuntimeError as error:
            raise _failed(error, f"deleting {job_id}") from None
        # A job that was deleted before Ray saw its end comes back as failed.
        sleep(2 * RAY_LOOKS_SECONDS)
        if find_job(api, job_id) is None:
            return


def read_log(api: JobsApi, job_id: str) -> str:
    """The driver's output so far; "" where its log cannot be had (its host is gone).

    Raises:
        ClusterAwayError: the cluster does not answer.
    """
    try:
        return str(api.get_job_logs(job_id))
    except RuntimeError:
        return ""


class LogReader:
    """Gives the lines of a log that were not given yet."""

    def __init__(self, api: JobsApi, job_id: str, on_line: Callable[[str], None]) -> None:
        self._api, self._id, self._on_line = api, job_id, on_line
        self._given = 0
        self._next = 0.0

    def read(self, now: float) -> None:
        """Give new whole lines, unless a long log was read a moment ago."""
        if now < self._next:
            return
        text = read_log(self._api, self._id)
        self._next = now + len(text) / LOG_CHARACTERS_A_SECOND
        self._give(text[: text.rfind("\n") + 1])

    def finish(self) -> None:
        """Give all that is left."""
        self._give(read_log(self._api, self._id))

    def _give(self, text: str) -> None:
        new = text[self._given :]
        for line in new.splitlines():
            self._on_line(line)
        self._given += len(new)


def wait_for_job(
    api: JobsApi,
    job_id: str,
    *,
    on_line: Callable[[str], None],
    on_status: Callable[[Job], None] = lambda _: None,
    patience: Patience = PATIENCE,
    limit_seconds: float = math.inf,
) -> Job:
    """Wait until a job has ended. A cluster that is away for a moment is waited for.

    Args:
        api: jobs API of the cluster.
        job_id: submission id of the job.
        on_line: called once with every line of the driver's log, with all of them before the
            return.
        on_status: called with the job at every change of its status or message.
        patience: seconds between two questions, and how long the cluster may be away.
        limit_seconds: seconds after which the job is returned as it is.

    Raises:
        ClusterAwayError: the cluster was away for longer than `patience` allows.
        RunnerError: the cluster no longer knows the job: its head was restarted.
    """
    log = LogReader(api, job_id, on_line)
    began = heard = time.monotonic()
    seen = Job("", "")
    while True:
        try:
            job = find_job(api, job_id)
            heard = time.monotonic()
            if job is None:
                raise RunnerError(
                    f"the cluster no longer knows {job_id}: its head was restarted, which ends "
                    "all its jobs; what the run wrote is kept"
                )
            if job.has_ended:
                log.finish()
                on_status(job)
                return job
            if (job.status, job.message) != (seen.status, seen.message):
                on_status(job)
                seen = job
            if job.status != "PENDING":
                log.read(heard)
            if heard - began > limit_seconds:
                return job
        except ClusterAwayError as error:
            if time.monotonic() - heard > patience.job_outage:
                raise ClusterAwayError(
                    f"{error} for {patience.job_outage:g} s; {job_id} may still be running",
                    error.hint,
                ) from None
        time.sleep(patience.job_poll)


@contextmanager
def _address_alone(address: str) -> Iterator[None]:
    """Make Ray's client use `address`; it prefers RAY_API_SERVER_ADDRESS and RAY_ADDRESS."""
    name = "RAY_API_SERVER_ADDRESS"
    before = os.environ.get(name)
    os.environ[name] = address
    try:
        yield
    finally:
        if before is None:
            del os.environ[name]
        else:
            os.environ[name] = before


def _job(found: Any) -> Job:
    return Job(
        id=found.submission_id,
        status=str(getattr(found.status, "value", found.status)),
        message=found.message or "",
        exit_code=found.driver_exit_code,
        metadata=dict(found.metadata or {}),
        started=found.start_time / 1000 if found.start_time else None,
        ended=found.end_time / 1000 if found.end_time else None,
    )


def _refused(address: str, token: Token | None, text: str) -> RunnerError:
    """401 and 403, in our words."""
    if token is None:
        return RunnerError(
            f"the Jobs API at {address} wants a token and none was found; nothing was done",
            HOW_TO_GET_IN,
        )
    if text.startswith("Authentication required"):
        return RunnerError(
            f"the Jobs API at {address} did not see the token from {token.source} (401): "
            "something between here and there removes the Authorization header; nothing was done",
            "ask who runs the proxy or ingress before the cluster",
        )
    return RunnerError(
        f"the Jobs API at {address} refuses the token from {token.source} (403): it is another "
        "cluster's, or an old one; nothing was done",
        HOW_TO_GET_IN,
    )


def _failed(error: Exception, doing: str) -> RunnerError:
    """A refusal by the cluster; its traceback stays there, its last line is said."""
    if "status code 404" in str(error):
        return RunnerError(
            f"{doing}: the cluster does not know this job",
            "metafuse status --address ADDRESS lists its jobs; a head that is restarted forgets "
            "them",
        )
    return RunnerError(
        f"{doing}: the cluster refused: {_last_line(error)}", "ray's own log on the head says more"
    )


def _last_line(error: Exception) -> str:
    lines = [line for line in str(error).splitlines() if line.strip(" .")]
    return (lines or [type(error).__name__])[-1][:300]
