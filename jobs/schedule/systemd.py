"""A schedule as systemd units or crontab lines."""

import shlex

from jobs.exits import ENDED
from jobs.schedule.nights import FINAL
from jobs.schedule.timetable import Timetable, read_clocks
from jobs.schedule.units import Unit, UnitRequest, as_comment, is_every_day, number_list

WEEKDAYS = ("Sun", "Mon", "Tue", "Wed", "Thu", "Fri", "Sat")


# Offsets of zones differ by whole quarters of an hour.
QUARTERS = (0, 15, 30, 45)


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
SuccessExitStatus={" ".join(str(code) for code in ENDED if code)}
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
    """A line that asks often: right in every zone of the daemon, and after any outage."""
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


def _systemd_word(word: str) -> str:
    """One word of a unit file, taken literally."""
    text = word.replace("\\", "\\\\").replace('"', '\\"').replace("%", "%%").replace("$", "$$")
    is_plain = text == word and not any(c.isspace() or c in "'\";" for c in word)
    return word if is_plain else f'"{text}"'
