"""Telling people how a run ended, by one webhook. What goes wrong is said on stderr, no more."""

import json
import os
from collections.abc import Callable, Collection, Mapping
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING

from cluster.errors import ClusterError
from fusion.errors import FusionError
from jobs.console.show import clean, warn
from jobs.errors import JobError, LockedError
from jobs.notify.webhook import deliver, examine
from jobs.outputs.runs import run_name
from jobs.recipes.notify_fields import HOST, Event

if TYPE_CHECKING:
    from jobs.recipes.blocks import Notify
    from jobs.recipes.recipe import Recipe
    from jobs.run.request import RunResult

ALLOW_VARIABLE = "METAFUSE_NOTIFY_ALLOW"
EVENTS: Mapping[int, Event] = {0: "promoted", 3: "nothing_new", 4: "held", 5: "refused"}
LONGEST = 600


@dataclass(frozen=True, slots=True)
class Message:
    """The body of the POST, as JSON.

    Attributes:
        text: one line for people, escaped as Slack wants it.
        event: promoted, held, refused, nothing_new or failed.
        run: name of the run; of a failed run that of its first attempt.
        recipe: name of the recipe.
        logical_date: logical date of the run.
        output: URI of the output.
        verdict: verdict of the gate; "" where the run was not judged.
        outcome: result as `outcome.json` says; "" where the run failed before it was written.
        code: code of the error; "" for none.
        exit_status: exit status of the driver; None where it is the one that belongs to `code`.
        reason: reason of the event, for people.
        report: place of the report; "" for none.
    """

    text: str
    event: Event
    run: str
    recipe: str
    logical_date: str
    output: str
    verdict: str = ""
    outcome: str = ""
    code: str = ""
    exit_status: int | None = None
    reason: str = ""
    report: str = ""


def describe_end(recipe: "Recipe", logical_date: str, result: "RunResult") -> Message:
    """The message about a run that came to its end."""
    event = EVENTS.get(result.exit_status, "failed")
    report = f"{result.output}/runs/{result.run}/report.html" if result.report else ""
    said = result.report.headline if result.report else ""
    reason = said if event == "promoted" and said else result.outcome.reason
    return Message(
        text=_line(result.run, event, reason, report),
        event=event,
        run=result.run,
        recipe=recipe.name,
        logical_date=logical_date,
        output=result.output,
        verdict=result.report.verdict.decision if result.report else "",
        outcome=result.outcome.result,
        exit_status=result.exit_status,
        reason=_short(reason),
        report=report,
    )


def describe_failure(recipe: "Recipe", logical_date: str, error: Exception) -> Message:
    """The message about a run that broke off with an error."""
    run = run_name(recipe.name, logical_date, 1)
    is_ours = isinstance(error, JobError | FusionError | ClusterError)
    code = getattr(error, "code", "E-BUG") if is_ours else "E-BUG"
    # Authors of foreign errors did not think of secrets in their texts.
    reason = str(error).partition("\n")[0] if is_ours else f"{type(error).__name__}; see the log"
    return Message(
        text=_line(run, "failed", f"{code} {reason}", ""),
        event="failed",
        run=run,
        recipe=recipe.name,
        logical_date=logical_date,
        output=recipe.output,
        code=code,
        reason=_short(reason),
    )


def tell(
    recipe: "Recipe",
    logical_date: str,
    end: "RunResult | Exception",
    environment: Mapping[str, str] = os.environ,
) -> None:
    """Send what the recipe wants to be told of.

    Args:
        recipe: with or without a notify block.
        logical_date: logical date of the run.
        end: how the run ended. The end of a driver that met another live driver is not told: the
            other driver tells its own.
        environment: environment variables with the address and the hosts that the operator allows.
    """
    wanted = recipe.notify
    if wanted is None or isinstance(end, LockedError):
        return
    if isinstance(end, Exception):
        message = describe_failure(recipe, logical_date, end)
    else:
        message = describe_end(recipe, logical_date, end)
    if message.event not in wanted.on:
        return
    problem = _send(wanted, message, environment)
    if problem:
        warn(f"nobody was told by the webhook in {wanted.url_env}: {problem}")


def look_at_webhook(recipe: "Recipe", environment: Mapping[str, str] = os.environ) -> str:
    """Which events the webhook would be told of from here, or why none; nothing is sent."""
    wanted = recipe.notify
    if wanted is None:
        return "nobody is told"
    problem = _with_address(wanted, environment, examine)
    if problem:
        return f"nobody is told from here: {wanted.url_env}: {problem}"
    return f"{', '.join(wanted.on)}: told by the webhook in {wanted.url_env}"


def _send(wanted: "Notify", message: Message, environment: Mapping[str, str]) -> str:
    body = json.dumps(asdict(message), sort_keys=True).encode()

    def send(url: str, *, allowed: Collection[str], trusted: Collection[str]) -> str:
        return deliver(url, body, allowed=allowed, trusted=trusted)

    return _with_address(wanted, environment, send)


def _with_address(wanted: "Notify", environment: Mapping[str, str], act: Callable[..., str]) -> str:
    """The answer of `act` to the address and the allowed hosts, or what is wrong with these."""
    url = environment.get(wanted.url_env, "").strip()
    if not url:
        return "the variable is not set here"
    trusted = environment.get(ALLOW_VARIABLE, "").lower().replace(",", " ").split()
    wrong = [entry for entry in trusted if not HOST.fullmatch(entry)]
    if wrong:
        return f"{ALLOW_VARIABLE} has {wrong[0]!r}, expected hosts such as hooks.slack.com"
    return act(url, allowed=wanted.allow, trusted=trusted)


def _line(run: str, event: str, reason: str, report: str) -> str:
    """One line; a name from a checkpoint can neither call people nor make links."""
    parts = [f"{run} {event.replace('_', ' ')}: {_short(reason)}", report]
    text = " ".join(filter(None, parts))
    return text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")


def _short(text: str) -> str:
    line = " ".join(clean(text).split())
    return line if len(line) <= LONGEST else line[: LONGEST - 1] + "…"
