"""The IAM policies of the examples: all that the product asks of S3, and nothing else."""

import json
import re
import urllib.request
from pathlib import Path

import boto3
import pytest

from cluster.errors import AccessError
from cluster.stores.open_store import open_store
from jobs.merge.ledger import Ledger
from jobs.notify.follow_up import follow_up
from jobs.recipes.recipe import load_recipe
from tests.jobs.commands.test_operate import call
from tests.support.light_runs import begin, drive
from tests.support.running import run_project
from tests.support.s3_recorder import recorded

pytestmark = pytest.mark.s3
ROLES = ("reader", "nightly", "operator")
OUTPUT = "s3://my-models/nightly"
CHECKPOINTS = "s3://my-checkpoints/training"


def grants(role):
    """(action, pattern of resources) of a policy."""
    policy = json.loads(Path(f"examples/deploy/iam-{role}.json").read_text())
    for statement in policy["Statement"]:
        assert statement["Effect"] == "Allow"
        assert "Condition" not in statement
        for action in several(statement["Action"]):
            for resource in several(statement["Resource"]):
                yield action, re.compile(re.escape(resource).replace(r"\*", ".*"))


def several(value):
    return [value] if isinstance(value, str) else value


def check_policy(role, asked):
    granted = list(grants(role))
    missing = {
        right
        for right in asked
        if not any(right.action == a and p.fullmatch(right.resource) for a, p in granted)
    }
    assert not missing
    unused = {
        (action, pattern.pattern)
        for action, pattern in granted
        if not any(right.action == action and pattern.fullmatch(right.resource) for right in asked)
    }
    assert not unused


def make_places(environment):
    for name in ("my-models", "my-checkpoints"):
        client = boto3.client("s3", endpoint_url=environment["AWS_ENDPOINT_URL_S3"])
        client.create_bucket(Bucket=name)
        client.put_bucket_versioning(Bucket=name, VersioningConfiguration={"Status": "Enabled"})


def move_project(project):
    """Candidates and data on S3, and the recipe that says so."""
    store = open_store(CHECKPOINTS)
    for path in (project / "candidates").rglob("*"), (project / "data").rglob("*"):
        for file in path:
            if file.is_file():
                store.put(file.relative_to(project).as_posix(), file.read_bytes())
    path = project / "recipe.yaml"
    text = path.read_text().replace("candidates/*", f"{CHECKPOINTS}/candidates/*")
    text = text.replace("data/eval", f"{CHECKPOINTS}/data/eval").replace("merged", OUTPUT)
    path.write_text(text)


@pytest.fixture
def places(moto, use):
    use(moto)
    client = boto3.client("s3")
    if "my-models" not in {b["Name"] for b in client.list_buckets()["Buckets"]}:
        make_places(moto)
    store = open_store(OUTPUT)
    for entry in list(store.list()):
        store.delete(entry.key)
    return store


def night(project):
    """What a driver does: a run, its history, an upload that lost a race, damaged bytes."""
    result = run_project(project)
    follow_up(load_recipe(project / "recipe.yaml"), "2026-11-24", result)
    assert result.outcome.result == "promoted", result.outcome
    (folder,) = {
        "/".join(e.key.split("/")[:3])
        for e in open_store(OUTPUT).list("runs/")
        if "/ledger-" in e.key and "baseline" not in e.key
    }
    store = open_store(OUTPUT)
    store.start_upload(f"{folder.replace('ledger', 'model')}/x", size=8, metadata={}).abort()
    Ledger(store, folder).forget()


@pytest.mark.long
def test_the_nightly_role_can_do_what_a_night_does_and_no_more(places, project):
    move_project(project)
    with recorded(places) as asked:
        night(project)
    check_policy("nightly", asked)


def leave_things(store):
    for day, decision in ((21, "PROMOTE"), (22, "PROMOTE"), (23, "HOLD")):
        drive(store, f"2026-11-{day}", decision)
    run = begin(store, "2026-11-24").plan.run
    store.start_upload(f"runs/{run}/model-{'0' * 12}/m.safetensors", size=8, metadata={})
    store.put(f"probe-{'0' * 32}", b"")
    store.put("scores/a-b-rank.parquet", b"rows")


def operate(capsys):
    for words in (
        ("status", OUTPUT, "--watch", "0"), ("doctor", OUTPUT),
        ("rollback", OUTPUT, "--reason", "r"), ("unhold", OUTPUT),
        ("hold", OUTPUT, "--reason", "r"),
        ("promote", OUTPUT, "nightly-2026-11-23", "--reason", "r"), ("unhold", OUTPUT),
        ("verify", OUTPUT, "--all"), ("history", OUTPUT, "--write"),
        ("gc", OUTPUT, "--keep", "0", "--older-than", "0"),
    ):  # fmt: skip
        status, said = call(capsys, *words)
        assert status == 0 or words[0] == "doctor", said
    assert {x["kind"] for x in said["leftovers"]} >= {"model", "upload", "probe", "score"}


def test_the_operator_role_can_do_what_operators_do_and_no_more(places, capsys):
    leave_things(places)
    with recorded(places) as asked:
        operate(capsys)
    check_policy("operator", asked)


def consume(capsys, folder):
    for words in (
        ("resolve", OUTPUT), ("pull", OUTPUT, folder), ("status", OUTPUT, "--watch", "0"),
        ("verify", OUTPUT), ("history", OUTPUT), ("report", OUTPUT, "--write", folder / "report"),
        ("predict", OUTPUT, "--text", "a lovely phone"),
    ):  # fmt: skip
        status, said = call(capsys, *words)
        assert status == 0, said


@pytest.mark.long
def test_the_reader_role_can_do_what_consumers_do_and_no_more(places, project, capsys, tmp_path):
    move_project(project)
    run_project(project)
    with recorded(places) as asked:
        consume(capsys, tmp_path / "model")
    check_policy("reader", asked)


def sign_in(environment, role, monkeypatch):
    """Credentials that have the rights of one policy; the server asks for rights from now on."""
    iam = boto3.client("iam", endpoint_url=environment["AWS_ENDPOINT_URL_S3"])
    iam.create_user(UserName=role)
    policy = Path(f"examples/deploy/iam-{role}.json").read_text()
    iam.put_user_policy(UserName=role, PolicyName=role, PolicyDocument=policy)
    key = iam.create_access_key(UserName=role)["AccessKey"]
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", key["AccessKeyId"])
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", key["SecretAccessKey"])
    ask_for_rights(environment, 0)


def ask_for_rights(environment, after):
    """The server looks at policies after so many more requests."""
    url = environment["AWS_ENDPOINT_URL_S3"] + "/moto-api/reset-auth"
    request = urllib.request.Request(url, str(after).encode(), {"Content-Type": "text/plain"})
    urllib.request.urlopen(request).close()


@pytest.mark.slow
def test_a_server_that_looks_at_the_policies_lets_each_role_do_its_work(
    places, moto, project, monkeypatch, capsys, tmp_path
):
    move_project(project)
    try:
        sign_in(moto, "nightly", monkeypatch)
        night(project)
        with pytest.raises(AccessError):
            places.delete("latest.json")
        with pytest.raises(AccessError):
            open_store(CHECKPOINTS).put("candidates/a/config.json", b"{}")
        ask_for_rights(moto, 10**9)
        sign_in(moto, "reader", monkeypatch)
        consume(capsys, tmp_path / "model")
        with pytest.raises(AccessError):
            places.put("latest.json", b"{}")
        ask_for_rights(moto, 10**9)
        for entry in list(places.list()):
            places.delete(entry.key)
        leave_things(places)
        sign_in(moto, "operator", monkeypatch)
        operate(capsys)
        with pytest.raises(AccessError):
            places.delete("latest.json")
    finally:
        ask_for_rights(moto, 10**9)
