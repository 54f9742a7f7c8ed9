"""What is wrong with a Ray cluster, seen from outside: its Jobs API, and a small job inside it."""

import json
import platform
import shlex
import uuid
from pathlib import Path
from typing import Any

from cluster.errors import RunnerError
from cluster.ray.address import check_jobs_reachable, find_token
from cluster.ray.jobs_api import (
    connect,
    delete_job,
    find_anonymous_status,
    read_log,
    stop_job,
    wait_for_job,
)
from jobs.doctor.machine import SHIPPED, Finding, find_version
from jobs.recipes.recipe import load_recipe
from jobs.submit.submit import Shipment, ship

JOB_SECONDS = 240.0


def examine_jobs_api(
    address: str, output: str | None, recipe: Path | None, *, with_code: bool
) -> list[Finding]:
    """Look at the Jobs API; if it lets us in, a job looks at the cluster from within.

    The job runs on the head without resources of its own and is deleted afterwards.

    Raises:
        RecipeError: the recipe has mistakes.
    """
    if recipe is not None:
        load_recipe(recipe)
    try:
        check_jobs_reachable(address)
        found = [_door(address)]
        api = connect(address)
    except RunnerError as error:
        return [Finding("jobs api", is_good=False, text=f"{error}. {error.hint}")]
    job_id = f"metafuse-doctor-{uuid.uuid4().hex[:12]}"
    files = {recipe.name: recipe.read_text(encoding="utf-8")} if recipe else {}
    ship(
        api,
        job_id,
        Shipment(entrypoint=_entrypoint(output, recipe, with_code=with_code), files=files,
                 with_code=with_code),
    )  # fmt: skip
    try:
        job = wait_for_job(api, job_id, on_line=lambda _: None, limit_seconds=JOB_SECONDS)
        if not job.has_ended:
            stop_job(api, job_id)
            text = f"the job did not end in {JOB_SECONDS:g} s: {job.status}. {job.message}"
            return [*found, Finding("job", is_good=False, text=text)]
        log = read_log(api, job_id)
    finally:
        if wait_for_job(api, job_id, on_line=lambda _: None, limit_seconds=10.0).has_ended:
            delete_job(api, job_id)
    return [*found, *_inside(log)]


def _entrypoint(output: str | None, recipe: Path | None, *, with_code: bool) -> str:
    words = ["python", "-m", "jobs"] if with_code else ["metafuse"]
    words += ["doctor", *([output] if output else []), "--address", "auto", "--json"]
    words += ["--recipe", recipe.name] if recipe else []
    return "exec " + " ".join(shlex.quote(word) for word in words)


def _door(address: str) -> Finding:
    """Whether the Jobs API takes clients without a token, and whether we have a token."""
    token = find_token()
    status = find_anonymous_status(address)
    if status in (401, 403):
        if token is None:
            text = f"{address} wants a token and none was found"
            return Finding("jobs api", is_good=False, text=text)
        return Finding(
            "jobs api", is_good=True, text=f"{address} wants a token; ours is from {token.source}"
        )
    text = f"{address} is open: whoever reaches it can run code on the cluster (status {status})"
    if token is not None:
        text += f"; the token from {token.source} protects nothing there"
    hint = "start the head with RAY_AUTH_MODE=token, and let only trusted networks reach it"
    return Finding("jobs api", is_good=False, text=f"{text}. {hint}")


def _inside(log: str) -> list[Finding]:
    said: dict[str, Any] = {}
    for line in log.splitlines():
        if line.startswith("{"):
            said = json.loads(line)
    if "findings" not in said:
        text = said.get("message") or log.strip()[-400:] or "it said nothing"
        return [Finding("job", is_good=False, text=f"the job in the cluster failed: {text}")]
    findings = [Finding(f["what"], f["is_good"], f["text"]) for f in said["findings"]]
    return [*_skew(said["driver"]), *findings]


def _skew(driver: dict[str, str]) -> list[Finding]:
    """Here against the driver. The Python here need not be the cluster's: HTTP is between them."""
    python = platform.python_version()
    pairs = [("ray", find_version("ray"), driver["ray"]), ("python", python, driver["python"])]
    if driver["metafuse"] != SHIPPED:
        pairs.append(("metafuse", find_version("metafuse"), driver["metafuse"]))
    return [
        Finding(f"{name} here and there", here == there or name == "python",
                f"{here} here, {there} on the cluster" if here != there else here)
        for name, here, there in pairs
    ]  # fmt: skip
