"""The examples for Kubernetes, containers and S3 hold what they promise."""

import json
import re
import tomllib
from pathlib import Path

import kubernetes_validate
import pytest
import yaml

from tests.support.servers import make_client

FOLDER = Path("examples/deploy")
PINS = dict(
    line.split("==") for line in Path("constraints.txt").read_text().splitlines() if "==" in line
)
VERSION = tomllib.loads(Path("pyproject.toml").read_text())["project"]["version"]
KUBERNETES = "1.37"
SECRET_NAME = re.compile(r"TOKEN|SECRET|PASSWORD|KEY|WEBHOOK", re.IGNORECASE)


def documents(name):
    return list(yaml.safe_load_all((FOLDER / name).read_text()))


def ray_cluster(name):
    (found,) = [d for d in documents(name) if d["kind"] in ("RayCluster", "RayJob")]
    return found["spec"].get("rayClusterSpec", found["spec"])


def ray_pods(name):
    """Pod templates of head and worker groups, by group."""
    spec = ray_cluster(name)
    groups = {group["groupName"]: group for group in spec["workerGroupSpecs"]}
    return {
        key: group["template"] for key, group in {"head": spec["headGroupSpec"], **groups}.items()
    }


def all_pods(name):
    pods = ray_pods(name)
    for document in documents(name):
        if "submitterPodTemplate" in document.get("spec", {}):
            pods["submitter"] = document["spec"]["submitterPodTemplate"]
    return pods


CLUSTERS = ("kuberay-cluster.yaml", "kuberay-job.yaml")
PODS = [(name, group) for name in CLUSTERS for group in all_pods(name)]


@pytest.mark.parametrize(("name", "group"), PODS)
def test_pod_templates_are_pods(name, group):
    template = all_pods(name)[group]
    pod = {
        "apiVersion": "v1", "kind": "Pod",
        "metadata": {"name": group, **template.get("metadata", {})}, "spec": template["spec"],
    }  # fmt: skip
    kubernetes_validate.validate(pod, KUBERNETES, strict=True)
    with pytest.raises(kubernetes_validate.ValidationError):
        kubernetes_validate.validate(
            {**pod, "spec": {**pod["spec"], "runAsRoot": True}}, KUBERNETES, strict=True
        )


@pytest.mark.parametrize("name", ["network-policy.yaml", "kuberay-cluster.yaml"])
def test_documents_of_kubernetes_itself_are_valid(name):
    found = [d for d in documents(name) if not d["apiVersion"].startswith("ray.io/")]
    assert found
    for document in found:
        kubernetes_validate.validate(document, KUBERNETES, strict=True)


@pytest.mark.parametrize("name", CLUSTERS)
def test_clusters_want_a_token_and_keep_the_head_free(name):
    spec = ray_cluster(name)
    assert spec["rayVersion"] == PINS["ray"]
    assert spec["authOptions"] == {"mode": "token"}
    assert spec["headGroupSpec"]["rayStartParams"]["num-cpus"] == "0"
    for group in (spec["headGroupSpec"], *spec["workerGroupSpecs"]):
        assert all(isinstance(value, str) for value in group["rayStartParams"].values())


@pytest.mark.parametrize(("name", "group"), PODS)
def test_pods_run_as_nobody_special_with_limits_and_no_secret(name, group):
    spec = all_pods(name)[group]["spec"]
    assert spec["securityContext"]["runAsNonRoot"] is True
    assert spec["securityContext"]["runAsUser"] >= 1000
    assert spec["automountServiceAccountToken"] is False
    (container,) = spec["containers"]
    assert container["securityContext"] == {
        "allowPrivilegeEscalation": False, "capabilities": {"drop": ["ALL"]},
    }  # fmt: skip
    assert container["image"].partition(":")[2] in (VERSION, f"{VERSION}-gpu")
    wanted, most = container["resources"]["requests"], container["resources"]["limits"]
    assert wanted["memory"] == most["memory"]
    for entry in container.get("env", ()):
        assert not SECRET_NAME.search(entry["name"]) or "secretKeyRef" in entry["valueFrom"]


@pytest.mark.parametrize(("name", "group"), [pod for pod in PODS if pod[1] != "submitter"])
def test_nodes_notice_a_silent_host(name, group):
    (container,) = ray_pods(name)[group]["spec"]["containers"]
    values = {entry["name"]: entry.get("value") for entry in container["env"]}
    assert values["RAY_grpc_client_keepalive_time_ms"] == "10000"
    assert values["RAY_grpc_client_keepalive_timeout_ms"] == "10000"


def test_the_network_policies_speak_of_the_pods_that_there_are():
    ingress, egress = documents("network-policy.yaml")
    wanted = ingress["spec"]["podSelector"]["matchLabels"]
    assert egress["spec"]["podSelector"]["matchLabels"] == wanted
    for name in CLUSTERS:
        for template in ray_pods(name).values():
            assert template["metadata"]["labels"].items() >= wanted.items()
    submitters = ingress["spec"]["ingress"][1]["from"][0]["podSelector"]["matchLabels"]
    labels = all_pods("kuberay-job.yaml")["submitter"]["metadata"]["labels"]
    assert labels.items() >= submitters.items()


def test_the_job_runs_the_recipe_that_it_mounts():
    (job,) = documents("kuberay-job.yaml")
    _, verb, recipe, *_ = job["spec"]["entrypoint"].split()
    (container,) = ray_pods("kuberay-job.yaml")["head"]["spec"]["containers"]
    assert verb == "run"
    assert Path(recipe).parent.as_posix() in [m["mountPath"] for m in container["volumeMounts"]]


def test_the_image_is_pinned_runs_as_nobody_special_and_holds_no_secret():
    lines = re.sub(r"\\\n", " ", (FOLDER / "Containerfile").read_text()).splitlines()
    steps = [line for line in lines if line and not line.startswith("#")]
    installs = [step for step in steps if "pip install" in step]
    assert installs
    assert all("-c constraints.txt" in s or "-c /tmp/constraints.txt" in s for s in installs)
    assert f"torch=={PINS['torch']}" in " ".join(installs)
    assert [step for step in steps if step.startswith("USER")][-1] == "USER 1000:1000"
    assert steps.index("USER 1000:1000") > max(
        i for i, s in enumerate(steps) if s.startswith("RUN")
    )
    assert not [s for s in steps if s.startswith(("ENV", "ARG")) and SECRET_NAME.search(s)]
    for step in steps:
        if step.startswith("COPY") and "--from" not in step:
            *sources, _ = step.split()[1:]
            assert all(Path(source).exists() for source in sources), step


def put_lifecycle(environment, name):
    client = make_client(environment)
    client.create_bucket(Bucket=name)
    wanted = json.loads((FOLDER / "lifecycle.json").read_text())
    client.put_bucket_lifecycle_configuration(Bucket=name, LifecycleConfiguration=wanted)
    found = client.get_bucket_lifecycle_configuration(Bucket=name)["Rules"]
    return wanted["Rules"], found


@pytest.mark.s3
def test_a_server_takes_the_lifecycle_rules(moto):
    wanted, found = put_lifecycle(moto, "lifecycle")
    assert found == wanted


@pytest.mark.s3
@pytest.mark.slow
@pytest.mark.xdist_group("seaweedfs")
def test_another_server_takes_the_rule_about_uploads(seaweedfs):
    wanted, found = put_lifecycle(seaweedfs, "lifecycle")
    assert [rule["ID"] for rule in found] == [rule["ID"] for rule in wanted]


def test_no_rule_expires_what_is_current():
    rules = json.loads((FOLDER / "lifecycle.json").read_text())["Rules"]
    assert all("Expiration" not in rule and "Transitions" not in rule for rule in rules)
