"""Nights on Kubernetes: a CronJob that submits to a standing Ray cluster, or a RayCronJob.

The parts that both share with `examples/deploy/` are the same there: names of the service account,
of the token's secret and of the labels that the network policy lets in.
"""

from importlib.metadata import version
from typing import Any

import yaml

from jobs.errors import UsageError
from jobs.schedule.nights import FINAL
from jobs.schedule.timetable import Timetable, read_clocks
from jobs.schedule.units import (
    Unit,
    UnitRequest,
    as_comment,
    is_every_day,
    number_list,
    start_limit_seconds,
)

HEAD = "http://metafuse-head-svc:8265"
FOLDER = "/etc/metafuse"
TOKEN_FOLDER = "/var/run/secrets/metafuse"  # noqa: S105  # a place
# A CronJob adds 11 characters to its name and a Job has 63; KubeRay has 47 for its jobs.
MAX_NAME = {"CronJob": 52, "RayCronJob": 36}
# A night that hangs must not stand in the way of all later ones.
LIMIT_SECONDS = 23 * 3600
USER = 1000
POD_SECURITY: dict[str, Any] = {
    "runAsNonRoot": True, "runAsUser": USER, "runAsGroup": USER, "fsGroup": USER,
    "seccompProfile": {"type": "RuntimeDefault"},
}  # fmt: skip
SECURITY: dict[str, Any] = {
    "allowPrivilegeEscalation": False, "capabilities": {"drop": ["ALL"]},
}  # fmt: skip
KEEPALIVE: list[dict[str, Any]] = [
    {"name": "RAY_grpc_client_keepalive_time_ms", "value": "10000"},
    {"name": "RAY_grpc_client_keepalive_timeout_ms", "value": "10000"},
]


def kubernetes_units(request: UnitRequest) -> tuple[Unit, ...]:
    """A CronJob whose pod submits the night and waits for it.

    Raises:
        UsageError: a name that is too long, or days that Kubernetes cannot say.
    """
    name = _name(request, "CronJob")
    address = request.address or HEAD
    policy = "Allow" if request.timetable.overlap == "cancel_older" else "Forbid"
    cron_job = {
        "apiVersion": "batch/v1",
        "kind": "CronJob",
        "metadata": {"name": name, "labels": _labels()},
        "spec": {
            "schedule": kubernetes_cron(request.timetable),
            "timeZone": request.timetable.zone,
            "concurrencyPolicy": policy,
            "startingDeadlineSeconds": int(start_limit_seconds(request.timetable)),
            "successfulJobsHistoryLimit": 7,
            "failedJobsHistoryLimit": 7,
            "jobTemplate": {
                "spec": {
                    "backoffLimit": 3,
                    "activeDeadlineSeconds": LIMIT_SECONDS,
                    "podFailurePolicy": _failure_policy("schedule"),
                    "template": {
                        "metadata": {"labels": _submitter_labels()},
                        "spec": _submitting_pod(request, name, address),
                    },
                }
            },
        },
    }
    head = f"""\
# Nights of {request.timetable.name}: a pod submits to the Ray cluster and waits; it needs no rights
# in Kubernetes.
# A pod that is lost, late or started twice is harmless: the state in the output knows what is due.
# Needs the service account and the secret of examples/deploy/kuberay-cluster.yaml.
"""
    return (_unit(request, name, head, cron_job),)


def kuberay_units(request: UnitRequest) -> tuple[Unit, ...]:
    """A RayCronJob: every night has a Ray cluster of its own.

    Raises:
        UsageError: a name that is too long, days that it cannot say, or a Jobs API as the address.
    """
    name = _name(request, "RayCronJob")
    if request.address not in ("", "auto"):
        raise UsageError(
            f"--address {request.address}: a RayCronJob has its own cluster; nothing was written",
            "--kind kubernetes submits to a standing cluster",
        )
    ray_cron_job = {
        "apiVersion": "ray.io/v1",
        "kind": "RayCronJob",
        "metadata": {"name": name, "labels": _labels()},
        "spec": {
            "schedule": kubernetes_cron(request.timetable),
            "timeZone": request.timetable.zone,
            "jobTemplate": {
                "entrypoint": f"metafuse schedule run {FOLDER}/nightly.yaml --once --plain-status "
                "--address auto",
                "entrypointNumCpus": 0,
                "submissionMode": "K8sJobMode",
                "backoffLimit": 2,
                "activeDeadlineSeconds": LIMIT_SECONDS,
                "shutdownAfterJobFinishes": True,
                "ttlSecondsAfterFinished": 600,
                "submitterPodTemplate": _submitter(request),
                "rayClusterSpec": _cluster(request, name),
            },
        },
    }
    head = f"""\
# Nights of {request.timetable.name}, each on a Ray cluster of its own.
# RayCronJob is ALPHA: KubeRay 1.7 or newer, with the feature gate RayCronJob=true. It has no
# concurrency policy and no deadline, and after an outage it starts a job for every missed tick, one
# after another. The entrypoint holds against that: stale ticks are told as missed and end at once,
# and two jobs at a time start one night.
"""
    return (_unit(request, name, head, ray_cron_job),)


def kubernetes_cron(timetable: Timetable) -> str:
    """The cron line in numbers, for a reader that knows no Sunday 7 and steps differently.

    Raises:
        UsageError: days of month and week that must both fit; Kubernetes lets either do.
    """
    clocks = read_clocks(timetable.cron)
    days, weekdays = number_list(clocks.days, 31), number_list(clocks.weekdays, 7)
    if is_every_day(clocks):
        days = weekdays = "*"
    elif clocks.are_both and "*" not in (days, weekdays):
        raise UsageError(
            f"schedule.cron {timetable.cron!r}: day of month and day of week must both fit, which "
            "Kubernetes cannot say; nothing was written",
            "give one of them, or use --kind systemd",
        )
    times = f"{number_list(clocks.minutes, 60)} {number_list(clocks.hours, 24)}"
    return f"{times} {days} {number_list(clocks.months, 12)} {weekdays}"


def _unit(request: UnitRequest, name: str, head: str, document: dict[str, Any]) -> Unit:
    config = {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": {"name": f"{name}-recipe", "labels": _labels()},
        "data": {"nightly.yaml": request.recipe_text},
    }
    text = head + as_comment(request.warning) + _dump(config) + "---\n" + _dump(document)
    return Unit(f"metafuse-{name}.yaml", text)


def _dump(document: dict[str, Any]) -> str:
    return yaml.dump(document, Dumper=PlainDumper, sort_keys=False, width=110)


class PlainDumper(yaml.SafeDumper):
    """No anchors, and recipes as blocks of lines: for people."""

    def ignore_aliases(self, data: Any) -> bool:
        """Write everything out."""
        return True


def _text(dumper: yaml.SafeDumper, text: str) -> yaml.ScalarNode:
    style = "|" if "\n" in text else None
    return dumper.represent_scalar("tag:yaml.org,2002:str", text, style=style)


PlainDumper.add_representer(str, _text)


def _name(request: UnitRequest, kind: str) -> str:
    name = request.timetable.name
    if len(name) > MAX_NAME[kind] or name.endswith("-"):
        raise UsageError(
            f"name: {name} cannot name a {kind}: at most {MAX_NAME[kind]} characters, and no "
            "hyphen at the end; nothing was written"
        )
    return name


def _labels() -> dict[str, str]:
    return {"app.kubernetes.io/name": "metafuse"}


def _submitter_labels() -> dict[str, str]:
    return {"app.kubernetes.io/component": "metafuse-submit"}


def _failure_policy(container: str) -> dict[str, Any]:
    codes = {"containerName": container, "operator": "In", "values": list(FINAL)}
    return {"rules": [{"action": "FailJob", "onExitCodes": codes}]}


def _submitting_pod(request: UnitRequest, name: str, address: str) -> dict[str, Any]:
    container = {
        "name": "schedule",
        "image": request.image,
        "command": [
            "metafuse", "schedule", "run", f"{FOLDER}/nightly.yaml", "--once", "--plain-status",
            "--address", address,
        ],
        "env": [
            {"name": "HOME", "value": "/tmp"},  # noqa: S108  # a volume of the pod's own
            {"name": "RAY_AUTH_MODE", "value": "token"},
            {"name": "RAY_AUTH_TOKEN_PATH", "value": f"{TOKEN_FOLDER}/auth_token"},
        ],
        "resources": {
            "requests": {"cpu": "100m", "memory": "512Mi"},
            "limits": {"memory": "512Mi"},
        },
        "securityContext": {**SECURITY, "readOnlyRootFilesystem": True},
        "volumeMounts": [
            {"name": "recipe", "mountPath": FOLDER, "readOnly": True},
            {"name": "token", "mountPath": TOKEN_FOLDER, "readOnly": True},
            {"name": "scratch", "mountPath": "/tmp"},  # noqa: S108  # a volume of the pod's own
        ],
    }  # fmt: skip
    return {
        "restartPolicy": "Never",
        "serviceAccountName": "metafuse-nightly",
        "automountServiceAccountToken": False,
        "terminationGracePeriodSeconds": 60,
        "securityContext": POD_SECURITY,
        "containers": [container],
        "volumes": [
            {"name": "recipe", "configMap": {"name": f"{name}-recipe"}},
            {"name": "token", "secret": {
                "secretName": "metafuse", "defaultMode": 0o440,
                "items": [{"key": "auth_token", "path": "auth_token"}],
            }},
            {"name": "scratch", "emptyDir": {"sizeLimit": "1Gi"}},
        ],
    }  # fmt: skip


def _submitter(request: UnitRequest) -> dict[str, Any]:
    container = {
        "name": "ray-job-submitter",
        "image": request.image,
        "securityContext": SECURITY,
        "resources": {
            "requests": {"cpu": "100m", "memory": "512Mi"},
            "limits": {"memory": "512Mi"},
        },
    }
    spec = {
        "restartPolicy": "Never",
        "automountServiceAccountToken": False,
        "securityContext": POD_SECURITY,
        "containers": [container],
    }
    return {"metadata": {"labels": _submitter_labels()}, "spec": spec}


def _cluster(request: UnitRequest, name: str) -> dict[str, Any]:
    """A head without work and three workers, as in examples/deploy/kuberay-job.yaml."""
    recipe = {"name": "recipe", "mountPath": FOLDER, "readOnly": True}
    recipe_volume = {"name": "recipe", "configMap": {"name": f"{name}-recipe"}}
    return {
        "rayVersion": version("ray"),
        "authOptions": {"mode": "token"},
        "headGroupSpec": {
            "rayStartParams": {"num-cpus": "0", "dashboard-host": "0.0.0.0"},  # noqa: S104  # a pod
            "template": _ray_pod(
                request, "ray-head", cpu="2", memory="8Gi", mounts=[recipe], volumes=[recipe_volume]
            ),
        },
        "workerGroupSpecs": [
            {
                "groupName": "cpu",
                "replicas": 3,
                "minReplicas": 3,
                "maxReplicas": 3,
                "rayStartParams": {"object-store-memory": "500000000"},
                "template": _ray_pod(
                    request, "ray-worker", cpu="8", memory="16Gi", mounts=[], volumes=[]
                ),
            }
        ],
    }


def _ray_pod(
    request: UnitRequest, container: str, *, cpu: str, memory: str,
    mounts: list[dict[str, Any]], volumes: list[dict[str, Any]],
) -> dict[str, Any]:  # fmt: skip
    spec = {
        "serviceAccountName": "metafuse-nightly",
        "automountServiceAccountToken": False,
        "terminationGracePeriodSeconds": 60,
        "securityContext": POD_SECURITY,
        "containers": [
            {
                "name": container,
                "image": request.image,
                "securityContext": SECURITY,
                "env": KEEPALIVE,
                "resources": {
                    "requests": {"cpu": cpu, "memory": memory},
                    "limits": {"memory": memory},
                },
                "volumeMounts": [
                    *mounts,
                    {"name": "shared-memory", "mountPath": "/dev/shm"},  # noqa: S108  # a volume
                    {"name": "scratch", "mountPath": "/tmp"},  # noqa: S108  # a volume
                ],
            }
        ],
        "volumes": [
            *volumes,
            {"name": "shared-memory", "emptyDir": {"medium": "Memory", "sizeLimit": "1Gi"}},
            {"name": "scratch", "emptyDir": {"sizeLimit": "20Gi"}},
        ],
    }
    return {"metadata": {"labels": _labels()}, "spec": spec}
