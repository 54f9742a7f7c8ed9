"""Exported units: each is held to its schema or checker, and fires when the cron line says."""

import configparser
import itertools
import json
import re
import shlex
import shutil
import subprocess
from datetime import UTC, datetime, timedelta
from pathlib import Path
from zoneinfo import ZoneInfo

import kubernetes_validate
import pytest
import yaml
from cronsim import CronSim

from jobs.cli.main import main
from jobs.errors import UsageError
from jobs.schedule.export import export_units
from jobs.schedule.kubernetes import kubernetes_cron
from jobs.schedule.systemd import on_calendar
from jobs.schedule.timetable import ticks
from jobs.schedule.units import UnitRequest
from tests.support.nights import moment, timetable

KUBERNETES = "1.37"
RECIPE = """\
name: nightly
candidates: [s3://b/c/*]
task: {kind: text-classification, data: s3://b/eval.parquet}
output: s3://b/out
schedule: {cron: "30 4 * * *", zone: Europe/Paris, catch_up: 6h}
"""
# Every kind of field, outside the hours of clock changes.
CRONS = (
    "30 4 * * *", "0 5 * * mon-fri", "15 6,18 1,15 * *", "0 4 1,15 * mon", "0 4 */2 * mon",
    "*/20 7-9 */9 * *", "5 12 31 */2 *", "0 4 1-31 * 1", "0 23 29 2 *", "45 5 * jan-mar 0,7",
)  # fmt: skip


def request(cron="30 4 * * *", **changes):
    table = changes.pop("table", None) or timetable(cron, "Europe/Paris")
    values = {
        "timetable": table, "recipe": Path("/etc/metafuse/nightly.yaml"), "recipe_text": RECIPE,
        "output": "s3://b/out", "image": "example.org/metafuse:1", "warning": "",
    }  # fmt: skip
    return UnitRequest(**{**values, **changes})


def documents(kind, **changes):
    (unit,) = export_units(kind, request(**changes))
    return list(yaml.safe_load_all(unit.text))


def year(cron, zone="Europe/Paris", begin="2027-01-01", end="2028-03-01"):
    table = timetable(cron, zone)
    return [t.at for t in ticks(table, moment(begin, zone), moment(end, zone))]


# Kubernetes


@pytest.mark.parametrize("overlap", ["skip", "queue", "cancel_older"])
def test_a_cron_job_is_one_and_runs_a_night_once(overlap):
    table = timetable("30 4 * * *", "Europe/Paris", overlap, hours=2)
    config, cron_job = documents("kubernetes", table=table)
    kubernetes_validate.validate(config, KUBERNETES, strict=True)
    kubernetes_validate.validate(cron_job, KUBERNETES, strict=True)
    assert config["data"]["nightly.yaml"] == RECIPE
    spec = cron_job["spec"]
    assert (spec["schedule"], spec["timeZone"]) == ("30 4 * * *", "Europe/Paris")
    assert spec["startingDeadlineSeconds"] == 7200
    assert spec["concurrencyPolicy"] == ("Allow" if overlap == "cancel_older" else "Forbid")
    job = spec["jobTemplate"]["spec"]
    pod = job["template"]["spec"]
    assert pod["restartPolicy"] == "Never", "a failure policy wants that"
    assert pod["securityContext"]["runAsNonRoot"]
    (container,) = pod["containers"]
    assert container["command"][:3] == ["metafuse", "schedule", "run"]
    assert {"--once", "--plain-status"} <= set(container["command"])
    assert container["command"][-1] == "http://metafuse-head-svc:8265"
    environment = {each["name"]: each["value"] for each in container["env"]}
    (token,) = [v for v in pod["volumes"] if "secret" in v]
    (mount,) = [m for m in container["volumeMounts"] if m["name"] == token["name"]]
    path = f"{mount['mountPath']}/{token['secret']['items'][0]['path']}"
    assert environment["RAY_AUTH_TOKEN_PATH"] == path


def test_a_mistake_in_a_cron_job_would_be_found():
    cron_job = documents("kubernetes")[1]
    cron_job["spec"]["concurrencePolicy"] = "Forbid"
    with pytest.raises(kubernetes_validate.ValidationError):
        kubernetes_validate.validate(cron_job, KUBERNETES, strict=True)


# KubeRay's documents, as far as they are used: field names and types.
RAY_CRON_JOB = {"schedule": str, "timeZone": str, "jobTemplate": dict}
RAY_JOB = {
    "entrypoint": str, "entrypointNumCpus": int, "submissionMode": str, "backoffLimit": int,
    "activeDeadlineSeconds": int, "shutdownAfterJobFinishes": bool, "ttlSecondsAfterFinished": int,
    "submitterPodTemplate": dict, "rayClusterSpec": dict,
}  # fmt: skip
RAY_CLUSTER = {
    "rayVersion": str, "authOptions": dict, "headGroupSpec": dict, "workerGroupSpecs": list,
}  # fmt: skip
HEAD_GROUP = {"rayStartParams": dict, "template": dict}
WORKER_GROUP = {
    **HEAD_GROUP, "groupName": str, "replicas": int, "minReplicas": int, "maxReplicas": int,
}  # fmt: skip


def check_fields(document, fields):
    assert {key: type(value) for key, value in document.items()} == fields


def test_a_ray_cron_job_has_the_fields_of_one_and_pods_that_are_pods():
    config, ray_cron_job = documents("kuberay")
    kubernetes_validate.validate(config, KUBERNETES, strict=True)
    assert (ray_cron_job["apiVersion"], ray_cron_job["kind"]) == ("ray.io/v1", "RayCronJob")
    check_fields(ray_cron_job["spec"], RAY_CRON_JOB)
    job = ray_cron_job["spec"]["jobTemplate"]
    check_fields(job, RAY_JOB)
    check_fields(job["rayClusterSpec"], RAY_CLUSTER)
    head, (worker,) = (
        job["rayClusterSpec"]["headGroupSpec"],
        job["rayClusterSpec"]["workerGroupSpecs"],
    )
    check_fields(head, HEAD_GROUP)
    check_fields(worker, WORKER_GROUP)
    for template in (head["template"], worker["template"], job["submitterPodTemplate"]):
        pod = {"apiVersion": "v1", "kind": "Pod", **template}
        pod["metadata"] = {"name": "pod", **template["metadata"]}
        kubernetes_validate.validate(pod, KUBERNETES, strict=True)
        assert template["spec"]["securityContext"]["runAsNonRoot"]
    assert head["rayStartParams"]["num-cpus"] == "0"
    assert job["rayClusterSpec"]["authOptions"] == {"mode": "token"}
    words = shlex.split(job["entrypoint"])
    assert words[:3] == ["metafuse", "schedule", "run"]
    assert {"--once", "--plain-status", "auto"} <= set(words)
    (unit,) = export_units("kuberay", request())
    assert "ALPHA" in unit.text.splitlines()[1]


@pytest.mark.parametrize("cron", CRONS)
def test_kubernetes_fires_when_the_cron_line_says(cron):
    """Its reader joins two lists of days by "or", and knows no names, no 7 and no steps here."""
    if cron == "0 4 */2 * mon":
        with pytest.raises(UsageError, match="which Kubernetes cannot say"):
            kubernetes_cron(timetable(cron, "Europe/Paris"))
        return
    line = kubernetes_cron(timetable(cron, "Europe/Paris"))
    assert re.fullmatch(r"[0-9,* ]+", line)
    assert not re.search(r"\b7\b", line.split()[4])
    assert year(line) == year(cron)


# systemd


def read_unit(text):
    """Strictly: sections, keys with values, comments on lines of their own."""
    found = {}
    section = None
    for line in text.splitlines():
        if not line or line.startswith("#"):
            continue
        if match := re.fullmatch(r"\[([A-Z][a-z]+)\]", line):
            section = found.setdefault(match[1], {})
            continue
        key, separator, value = line.partition("=")
        assert separator, line
        assert re.fullmatch(r"[A-Z][A-Za-z]+", key), line
        section.setdefault(key, []).append(value)
    configparser.ConfigParser(strict=False, interpolation=None).read_string(text)
    return found


def calendar_times(spec):
    """Fields of an OnCalendar line as this module reads them: weekdays, months, days, times."""
    match = re.fullmatch(
        r"(?:([A-Z][a-z]{2}(?:,[A-Z][a-z]{2})*) )?\*-([0-9,*]+)-([0-9,*]+) "
        r"([0-9,*]+):([0-9,*]+):00 (\S+)",
        spec,
    )
    assert match, spec
    names = ("Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun")
    weekdays = {names.index(name) for name in match[1].split(",")} if match[1] else set(range(7))
    numbers = [None if m == "*" else {int(n) for n in m.split(",")} for m in match.groups()[1:5]]
    return weekdays, *numbers, match[6]


def simulate_calendar(specs, begin, end):
    """When a reader of OnCalendar that takes every field literally would fire."""
    found = set()
    for spec in specs:
        weekdays, months, days, hours, minutes, zone = calendar_times(spec)
        day = datetime.fromisoformat(begin)
        while day < datetime.fromisoformat(end):
            is_day = day.weekday() in weekdays
            is_day = is_day and (months is None or day.month in months)
            if is_day and (days is None or day.day in days):
                for hour, minute in itertools.product(hours or range(24), minutes or range(60)):
                    local = day.replace(hour=hour, minute=minute, tzinfo=ZoneInfo(zone))
                    found.add(local.timestamp())
            day += timedelta(days=1)
    return sorted(found)


@pytest.mark.parametrize("cron", CRONS)
def test_a_timer_fires_when_the_cron_line_says(cron):
    """Over 14 months with a leap day, as this file reads a timer and as systemd itself does."""
    specs = on_calendar(timetable(cron, "Europe/Paris"))
    expected = year(cron)
    assert expected
    assert simulate_calendar(specs, "2027-01-01", "2028-03-01") == expected
    if shutil.which("systemd-analyze"):
        seen = [systemd_ticks(spec, len(expected) + 1) for spec in specs]
        assert sorted(set().union(*seen)) == expected


def systemd_ticks(spec, count):
    """The first ticks of 2027 by systemd's own calendar, up to the end of `year`."""
    said = subprocess.run(
        ["systemd-analyze", "calendar", f"--iterations={count}",
         "--base-time=2026-12-31 23:00:00 UTC", spec],
        capture_output=True, text=True, check=True, env={"TZ": "UTC", "LC_ALL": "C"},
    ).stdout  # fmt: skip
    texts = re.findall(r"(?:Next elapse|Iter\. #\d+): \w{3} (\S+ \S+) UTC", said)
    times = [datetime.fromisoformat(text).replace(tzinfo=UTC).timestamp() for text in texts]
    return [at for at in times if at <= moment("2028-03-01", "Europe/Paris")]


@pytest.mark.parametrize(
    "changes",
    [{}, {"address": "http://head:8265"}, {"output": "/srv/my models", "warning": "mind the gap"},
     {"recipe": Path('/etc/meta fuse/100%/a"b$c;d.yaml')}],
)  # fmt: skip
def test_a_service_is_complete_and_verified(tmp_path, changes):
    timer_unit, service_unit = export_units("systemd", request(**changes))
    timer, service = read_unit(timer_unit.text), read_unit(service_unit.text)
    assert timer["Timer"]["Persistent"] == ["true"]
    assert timer["Install"]["WantedBy"] == ["timers.target"]
    assert set(service["Service"]["SuccessExitStatus"][0].split()) == {"3", "4", "5"}
    assert service["Service"]["User"] == ["metafuse"]
    assert service["Service"]["ProtectSystem"] == ["strict"]
    has_token = "LoadCredential" in service["Service"]
    assert has_token == ("address" in changes)
    if "output" in changes:
        assert service["Service"]["ReadWritePaths"] == ['"/srv/my models"']
    (line,) = service["Service"]["ExecStart"]
    words = shlex.split(line.replace("%%", "%").replace("$$", "$"))
    recipe = str(changes.get("recipe", "/etc/metafuse/nightly.yaml"))
    assert words[:6] == ["/usr/bin/env", "metafuse", "schedule", "run", recipe, "--once"]
    if shutil.which("systemd-analyze"):
        for unit in (timer_unit, service_unit):
            (tmp_path / unit.name).write_text(unit.text)
        paths = [str(tmp_path / unit.name) for unit in (timer_unit, service_unit)]
        done = subprocess.run(
            ["systemd-analyze", "verify", *paths], capture_output=True, text=True, check=False
        )
        assert (done.returncode, done.stderr) == (0, "")


# crontab


def crontab_line(**changes):
    (unit,) = export_units("crontab", request(**changes))
    if shutil.which("crontab") and "-T" in (
        subprocess.run(["crontab", "-h"], capture_output=True, text=True, check=False).stderr
    ):
        subprocess.run(["crontab", "-T", "-"], input=unit.text, text=True, check=True)
    lines = [line for line in unit.text.splitlines() if line and not line.startswith("#")]
    assert lines[0] == "SHELL=/bin/sh"
    (line,) = lines[1:]
    *fields, command = line.split(" ", 5)
    return " ".join(fields), command


@pytest.mark.parametrize("daemon", ["UTC", "Asia/Kathmandu", "Australia/Eucla", "America/New_York"])
@pytest.mark.parametrize("cron", ["30 4 * * *", "7 23 * * mon", "*/20 7-9 * * *"])
def test_a_daemon_in_any_zone_asks_at_every_tick(daemon, cron):
    fields, _ = crontab_line(cron=cron)
    begin = datetime(2027, 3, 20, tzinfo=UTC).astimezone(ZoneInfo(daemon))
    asked = {at.timestamp() for at in itertools.islice(CronSim(fields, begin), 5000)}
    due = year(cron, begin="2027-03-22", end="2027-04-06")
    assert due
    assert set(due) <= asked


def test_a_crontab_command_is_what_the_shell_gets():
    _, command = crontab_line(recipe=Path("/etc/meta fuse/100%.yaml"))
    assert re.search(r"(?<!\\)%", command) is None
    words = shlex.split(command.replace("\\%", "%").partition(" 2>&1 |")[0])
    assert words[-3:] == ["run", "/etc/meta fuse/100%.yaml", "--once"]


# The verb


def export(capsys, *words):
    with pytest.raises(SystemExit) as left:
        main(["schedule", "export", *map(str, words)])
    return left.value.code, *capsys.readouterr()


def test_the_verb_prints_or_writes_files(tmp_path, capsys):
    recipe = tmp_path / "nightly.yaml"
    recipe.write_text(RECIPE)
    code, out, _ = export(capsys, recipe, "--kind", "kubernetes", "--image", "example.org/x:2")
    assert code == 0
    assert "image: example.org/x:2" in out
    code, out, _ = export(capsys, recipe, "--kind", "systemd", "--out", tmp_path / "units")
    assert [Path(line).name for line in out.split()] == [
        "metafuse-nightly.timer", "metafuse-nightly.service",
    ]  # fmt: skip
    assert all(Path(line).exists() for line in out.split())
    code, out, _ = export(capsys, recipe, "--kind", "crontab", "--json")
    assert json.loads(out)["units"][0]["name"] == "metafuse-nightly.crontab"


def test_what_cannot_work_is_refused(tmp_path, capsys):
    recipe = tmp_path / "nightly.yaml"
    recipe.write_text(RECIPE.replace("s3://b/c/*", "./c/*"))
    code, _, err = export(capsys, recipe, "--kind", "kubernetes")
    assert (code, err.split()[0]) == (10, "E-RECIPE")
    recipe.write_text(RECIPE.replace("name: nightly", f"name: {'n' * 60}"))
    code, _, err = export(capsys, recipe, "--kind", "kuberay")
    assert (code, err.split()[0]) == (2, "E-USAGE")
    recipe.write_text(RECIPE.partition("schedule")[0])
    code, _, err = export(capsys, recipe, "--kind", "systemd")
    assert code == 10
    assert "schedule is missing" in err
