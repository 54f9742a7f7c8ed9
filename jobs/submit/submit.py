"""A run as one job of a Ray cluster: what is sent there, under which id, and how it ended."""

import re
import shlex
import shutil
import tempfile
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cluster.errors import RunnerError
from jobs.console.json_log import VARIABLE, read_log
from jobs.errors import LockedError, RecipeError
from jobs.exits import INTERRUPTED
from jobs.recipes.recipe import Recipe, load_recipe, parse_recipe, unattended
from jobs.recipes.strict_yaml import read_text
from jobs.submit.runtime_env import load_runtime_env

if TYPE_CHECKING:
    from cluster.ray.jobs_api import Job, JobsApi

# A folder that cannot exist: what starts from it was written as a relative place.
NOWHERE = "/\0"
RAY_SETTINGS = {
    # A host that goes silent is noticed in half a minute instead of seven.
    "RAY_grpc_client_keepalive_time_ms": "10000",
    "RAY_grpc_client_keepalive_timeout_ms": "10000",
    # A driver leaves within 3 s, after which Ray would kill it; a busy host is slower.
    "RAY_JOB_STOP_WAIT_TIME_S": "15",
}
DIGEST_KEY = "metafuse_recipe"
RUN_KEY = "metafuse_run"
OUTPUT_KEY = "metafuse_output"


@dataclass(frozen=True, slots=True)
class Submission:
    """What is to be submitted.

    Attributes:
        recipe: checked recipe, as its driver will see it.
        path: path of the recipe's file.
        date: logical date of the run.
        submission_id: id of the job that was asked for; "" for the run's next one.
        with_code: whether our packages travel with the job; else the hosts have metafuse installed.
        num_cpus: CPUs reserved for the driver; 0 leaves the driver on the head.
        runtime_env: the user's part of Ray's runtime environment.
    """

    recipe: Recipe
    path: Path
    date: str
    submission_id: str = ""
    with_code: bool = True
    num_cpus: float = 0.0
    runtime_env: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Shipment:
    """What travels to the cluster as one job.

    Attributes:
        entrypoint: shell command that the job runs.
        files: texts by file name; the command runs in a folder that holds these files alone.
        with_code: whether our packages travel with the job.
        runtime_env: the user's part of Ray's runtime environment.
        metadata: metadata that Ray keeps with the job.
        num_cpus: CPUs reserved for the command.
    """

    entrypoint: str
    files: Mapping[str, str]
    with_code: bool
    runtime_env: Mapping[str, Any] = field(default_factory=dict)
    metadata: Mapping[str, str] = field(default_factory=dict)
    num_cpus: float = 0.0


@dataclass(frozen=True, slots=True)
class Submitted:
    """A job of the cluster that does the run. `is_new` is False where it was there before."""

    id: str
    is_new: bool


def load_submission(
    path: Path,
    date: str,
    *,
    submission_id: str = "",
    with_code: bool = True,
    num_cpus: float = 0.0,
    runtime_env: Path | None = None,
) -> Submission:
    """Check here all that can be checked without the cluster.

    Raises:
        RecipeError: the recipe or the runtime environment has mistakes, or the recipe names files
            that the cluster cannot have.
    """
    recipe = unattended(load_recipe(path))
    check_places(path)
    return Submission(
        recipe=recipe,
        path=path,
        date=date,
        submission_id=submission_id,
        with_code=with_code,
        num_cpus=num_cpus,
        runtime_env=load_runtime_env(runtime_env) if runtime_env else {},
    )


def check_places(path: Path) -> None:
    """Refuse a recipe with relative places: they are relative to a folder that stays here.

    Raises:
        RecipeError: names all of them.
    """
    recipe = parse_recipe(read_text(path), name=path.name, folder=NOWHERE)
    places = {
        "candidates": recipe.candidates,
        "task.data": recipe.task.places,
        "base": (recipe.base or "",),
        "output": (recipe.output,),
    }
    found = [
        f"{key}: {place.removeprefix(NOWHERE).removeprefix('/')}"
        for key, written in places.items()
        for place in written
        if place.startswith((NOWHERE, "~"))
    ]
    if found:
        raise RecipeError(
            f"{path.name} names places of this machine, which the cluster does not have; nothing "
            "was submitted\n" + "\n".join(found),
            "use s3:// URIs, or absolute paths of a file system that all hosts have mounted",
        )


def find_local_places(recipe: Recipe) -> tuple[str, ...]:
    """Absolute paths, which every host of the cluster must see."""
    places = (*recipe.candidates, *recipe.task.places, recipe.base or "", recipe.output)
    return tuple(place for place in places if place.startswith("/"))


def run_id(submission: Submission) -> str:
    """Recipe name and logical date, whose submissions `-s1`, `-s2` ... count."""
    return f"{submission.recipe.name}-{submission.date}"


def submit(api: "JobsApi", submission: Submission) -> Submitted:
    """Submit the run, or find the job that does it already. Two callers at once get one job.

    The newest submission of the run decides: one that waits or runs is joined; after one that has
    ended, however it did, the next is submitted. Its driver looks at the output: it continues an
    unfinished run, and says "nothing new" where there is nothing to do. A submission id that was
    asked for is used once: a job that has it is joined even if it has ended.

    Raises:
        LockedError: the job that is there does another recipe of this name.
        RunnerError: the cluster does not answer or refuses.
    """
    from cluster.ray.jobs_api import find_job, list_jobs

    if submission.submission_id:
        there = find_job(api, submission.submission_id)
        wanted = submission.submission_id
    else:
        newest = _newest(list_jobs(api), run_id(submission))
        there = newest[1] if newest and not newest[1].has_ended else None
        wanted = f"{run_id(submission)}-s{newest[0] + 1 if newest else 1}"
    if there is not None:
        _check_same(there, submission)
        return Submitted(there.id, is_new=False)
    if _send(api, wanted, submission):
        return Submitted(wanted, is_new=True)
    winner = find_job(api, wanted)
    if winner is not None:
        _check_same(winner, submission)
    return Submitted(wanted, is_new=False)


def exit_status(job: "Job") -> int:
    """The status of a job that has ended: its driver's own, or ours for the cluster's doing.

    Raises:
        RunnerError: the job failed and its driver left no status of its own.
    """
    if job.status == "SUCCEEDED":
        return 0
    if job.status == "STOPPED":
        return INTERRUPTED
    code = job.exit_code
    if code is not None and (0 < code < 126 or code == INTERRUPTED):
        return code
    if code in (126, 127):
        raise RunnerError(
            f"{job.id}: the driver could not be started (exit status {code})",
            "with --image, metafuse must be installed on the hosts; without, `python` must be "
            "theirs",
        )
    how = f"its driver was killed (exit status {code})" if code else "its driver left no status"
    raise RunnerError(
        f"{job.id} failed: {how}. {_shortened(job.message)}".rstrip(),
        "the same metafuse submit continues the run from what is stored",
    )


def entrypoint(submission: Submission) -> str:
    """The command that the cluster runs. `exec`, so that the driver itself hears of a stop."""
    program = "python -m jobs" if submission.with_code else "metafuse"
    return (
        f"exec {program} run {shlex.quote(submission.path.name)} --date "
        f"{shlex.quote(submission.date)} --address auto --unattended"
    )


def _newest(jobs: Iterable["Job"], run: str) -> tuple[int, "Job"] | None:
    pattern = re.compile(re.escape(run) + r"-s([1-9][0-9]*)")
    found = [(int(m[1]), job) for job in jobs if (m := pattern.fullmatch(job.id))]
    return max(found, key=lambda pair: pair[0], default=None)


def _check_same(job: "Job", submission: Submission) -> None:
    if job.metadata.get(DIGEST_KEY) == submission.recipe.digest:
        return
    raise LockedError(
        f"{job.id} is there already and does another recipe named {submission.recipe.name}, or an "
        "earlier version of this one; nothing was submitted",
        f"metafuse status {job.id} --address ADDRESS shows it, metafuse stop ends it",
    )


def _send(api: "JobsApi", job_id: str, submission: Submission) -> bool:
    recipe = submission.recipe
    metadata = {DIGEST_KEY: recipe.digest, RUN_KEY: run_id(submission), OUTPUT_KEY: recipe.output}
    shipment = Shipment(
        entrypoint=entrypoint(submission),
        files={submission.path.name: recipe.text},
        with_code=submission.with_code,
        runtime_env=submission.runtime_env,
        metadata=metadata,
        num_cpus=submission.num_cpus,
    )
    return ship(api, job_id, shipment)


def ship(api: "JobsApi", job_id: str, shipment: Shipment) -> bool:
    """Submit a command with its files, and nothing else of this machine.

    Returns:
        False if there was a job of this id already.

    Raises:
        RunnerError: the cluster refused it or does not answer.
    """
    from cluster.ray.jobs_api import submit_job

    with tempfile.TemporaryDirectory(prefix="metafuse-submit-") as folder:
        work = Path(folder) / "work"
        work.mkdir()
        for name, text in shipment.files.items():
            (work / name).write_text(text, encoding="utf-8")
        env = dict(shipment.runtime_env)
        env["working_dir"] = str(work)
        env["env_vars"] = {**RAY_SETTINGS, **_log_variable(), **env.get("env_vars", {})}
        if shipment.with_code:
            env["py_modules"] = [str(path) for path in copy_packages(Path(folder) / "code")]
        return submit_job(
            api,
            job_id,
            entrypoint=shipment.entrypoint,
            runtime_env=env,
            metadata=shipment.metadata,
            num_cpus=shipment.num_cpus,
        )


def copy_packages(folder: Path) -> list[Path]:
    """Our three packages without what Python keeps beside them, so that equal code stays equal."""
    import cluster
    import fusion
    import jobs

    copied = []
    for package in (jobs, fusion, cluster):
        source = Path(str(package.__file__)).parent
        ignore = shutil.ignore_patterns("__pycache__", "*.pyc")
        copied.append(Path(shutil.copytree(source, folder / source.name, ignore=ignore)))
    return copied


def _log_variable() -> dict[str, str]:
    """The driver logs as this command was asked to."""
    return {VARIABLE: "json"} if read_log().is_json else {}


def _shortened(text: str, most: int = 600) -> str:
    return text if len(text) <= most else "... " + text[-most:]
