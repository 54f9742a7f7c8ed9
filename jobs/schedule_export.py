"""Units that start nights without a scheduler of ours kept alive: systemd, crontab, Kubernetes.

All of them call `metafuse schedule run --once`, which knows from its state what is due: a unit that
fires late, twice or out of turn starts nothing twice.
"""

import shlex
import textwrap
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from jobs.errors import UsageError
from jobs.nightly import DONE, FINAL, ON_TIME_SECONDS
from jobs.timetable import Clocks, Timetable, read_clocks

UnitKind = Literal["kubernetes", "kuberay", "systemd", "crontab"]
WEEKDAYS = ("Sun", "Mon", "Tue", "Wed", "Thu", "Fri", "Sat")
# Offsets of zones differ by whole quarters of an hour.
QUARTERS = (0, 15, 30, 45)
UNUSUAL = "".join(chr(code) for code in range(32)) + "\x7f"

HARDENING = """\
NoNewPrivileges=yes
CapabilityBoundingSet=
PrivateTmp=yes
ProtectSystem=strict
ProtectHome=read-only
ProtectKernelModules=yes
ProtectKernelTunables=yes
ProtectControlGroups=yes
RestrictSUIDSGID=yes
LockPersonality=yes
UMask=0027
"""


@dataclass(frozen=True, slots=True)
class UnitRequest:
    """What a unit is made from.

    Attributes:
        timetable: when nights are due.
        recipe: absolute path of the recipe on the machine of the unit.
        recipe_text: its content, which travels in a ConfigMap.
        output: of the recipe; a folder must be writable for the unit.
        image: container image with metafuse.
        address: as `schedule run` takes it; "" for the kind's own default.
        command: absolute command line of metafuse on the machine of the unit.
        warning: of times that clock changes touch; "" if there is none.
    """

    timetable: Timetable
    recipe: Path
    recipe_text: str
    output: str
    image: str
    address: str = ""
    command: tuple[str, ...] = ("/usr/bin/env", "metafuse")
    warning: str = ""


@dataclass(frozen=True, slots=True)
class Unit:
    """One file."""

    name: str
    text: str


def export_units(kind: UnitKind, request: UnitRequest) -> tuple[Unit, ...]:
    """The files of one kind.

    Raises:
        UsageError: the schedule, a name or a path cannot be said there.
    """
    from jobs.schedule_kubernetes import kuberay_units, kubernetes_units

    makers: Mapping[UnitKind, Callable[[UnitRequest], tuple[Unit, ...]]] = {
        "kubernetes": kubernetes_units,
        "kuberay": kuberay_units,
        "systemd": systemd_units,
        "crontab": crontab_units,
    }
    for text in (str(request.recipe), request.output, request.address, request.image):
        if any(character in UNUSUAL for character in text):
            raise UsageError(f"{text!r} has control characters; nothing was written")
    return makers[kind](request)


def start_limit_seconds(timetable: Timetable) -> float:
    """How late a night may begin."""
    return max(timetable.catch_up_seconds, ON_TIME_SECONDS)


def on_calendar(timetable: Timetable) -> tuple[str, ...]:
    """The cron line as systemd has it.

    Two lines, either of which counts, where day of month and day of week are joined by "or": cron
    does that if neither begins with a star.
    """
    clocks = read_clocks(timetable.cron)
    times = f"{number_list(clocks.hours, 24)}:{number_list(clocks.minutes, 60)}:00 {timetable.zone}"
    months = number_list(clocks.months, 12)
    every = f"*-{months}-*"
    by_date = f"*-{months}-{number_list(clocks.days, 31)}"
    names = ",".join(WEEKDAYS[day] for day in clocks.weekdays) + " "
    if is_every_day(clocks):
        return (f"{every} {times}",)
    if not clocks.are_both:
        return (f"{by_date} {times}", f"{names}{every} {times}")
    by_name = names if len(clocks.weekdays) < 7 else ""
    return (f"{by_name}{by_date} {times}",)


def is_every_day(clocks: Clocks) -> bool:
    """Whether neither days of the month nor days of the week leave anything out."""
    is_full = (len(clocks.days) == 31, len(clocks.weekdays) == 7)
    return all(is_full) if clocks.are_both else any(is_full)


def cron_minutes(timetable: Timetable) -> str:
    """Minutes at which a cron daemon of any zone has to ask, so that no tick is missed."""
    minutes = read_clocks(timetable.cron).minutes
    return number_list(tuple(sorted({(m + q) % 60 for m in minutes for q in QUARTERS})), 60)


def systemd_units(request: UnitRequest) -> tuple[Unit, ...]:
    """A timer and the service that it starts."""
    name = f"metafuse-{request.timetable.name}"
    calendar = "\n".join(f"OnCalendar={line}" for line in on_calendar(request.timetable))
    warning = as_comment(request.warning)
    timer = f"""\
# /etc/systemd/system/{name}.timer
# systemctl daemon-reload && systemctl enable --now {name}.timer
[Unit]
Description=Nights of {request.timetable.name}

[Timer]
{warning}{calendar}
# The machine was off: once, when it is back. The service knows whether that is too late.
Persistent=true
AccuracySec=1s

[Install]
WantedBy=timers.target
"""
    return (Unit(f"{name}.timer", timer), Unit(f"{name}.service", _service(name, request)))


def _service(name: str, request: UnitRequest) -> str:
    words = [*request.command, "schedule", "run", str(request.recipe), "--once"]
    words += ["--address", request.address] if request.address else []
    place = request.output.removeprefix("file://")
    writes = f"ReadWritePaths={_systemd_word(place)}\n" if place.startswith("/") else ""
    credential = ""
    if request.address:
        credential = """\
# The cluster's token: readable by root alone there, handed to this service as a file.
LoadCredential=ray-token:/etc/metafuse/ray-token
Environment=RAY_AUTH_MODE=token RAY_AUTH_TOKEN_PATH=%d/ray-token
"""
    return f"""\
# /etc/systemd/system/{name}.service
# A service runs once at a time, so nights of this machine never overlap.
[Unit]
Description=Night of {request.timetable.name}
Wants=network-online.target
After=network-online.target

[Service]
Type=oneshot
# useradd --system metafuse
User=metafuse
StateDirectory=metafuse
Environment=HOME=%S/metafuse
ExecStart={" ".join(_systemd_word(word) for word in words)}
# Nothing new, held and not decided are answers too.
SuccessExitStatus={" ".join(str(code) for code in DONE if code)}
# A wrong recipe, a refusal and models that do not fit stay what they are.
RestartPreventExitStatus={" ".join(map(str, FINAL))}
Restart=on-failure
RestartSec=5min
TimeoutStartSec=infinity
# SIGTERM reaches the scheduler, which ends its night within seconds and writes that down.
KillMode=mixed
TimeoutStopSec=60
{credential}{writes}{HARDENING}"""


def crontab_units(request: UnitRequest) -> tuple[Unit, ...]:
    """A line that asks often: right in whatever zone the daemon lives, and after any outage."""
    table = request.timetable
    words = [*request.command, "schedule", "run", str(request.recipe), "--once"]
    words += ["--address", request.address] if request.address else []
    # To cron a percent sign ends the command.
    command = shlex.join(words).replace("%", "\\%")
    text = f"""\
# Nights of {table.name}: {table.cron} in {table.zone}.
# Cron daemons differ in zones: cronie reads CRON_TZ, Debian's cron ignores it and uses the host's
# zone, some run in UTC. So this line asks every quarter of an hour; what is due is decided by the
# state, in {table.zone}. A call with nothing due ends at once and says nothing.
# crontab -u metafuse metafuse-{table.name}.crontab
SHELL=/bin/sh
{cron_minutes(table)} * * * * {command} 2>&1 | logger -t metafuse-{table.name}
"""
    return (Unit(f"metafuse-{table.name}.crontab", text),)


def as_comment(text: str) -> str:
    """Lines that begin with a hash; nothing for an empty text."""
    return "".join(f"# {line}\n" for line in textwrap.wrap(text, 98))


def number_list(numbers: tuple[int, ...], count: int) -> str:
    """Numbers with commas; a star where none of `count` is missing."""
    return "*" if len(numbers) == count else ",".join(map(str, numbers))


def _systemd_word(word: str) -> str:
    """One word of a unit file, taken literally."""
    text = word.replace("\\", "\\\\").replace('"', '\\"').replace("%", "%%").replace("$", "$$")
    is_plain = text == word and not any(c.isspace() or c in "'\";" for c in word)
    return word if is_plain else f'"{text}"'
