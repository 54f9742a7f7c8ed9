import json
from dataclasses import replace

import pytest

from cluster.ray.ask_hosts import NodeAnswer
from cluster.ray.jobs_api import connect, list_jobs
from cluster.workers.board import Node
from jobs.doctor.ray_cluster import Look, check_resources, compare_versions, look_around
from jobs.recipes.recipe import load_recipe
from tests.support.ray_head import metafuse, ray_head, ray_worker
from tests.support.tiny_lstm import RECIPE, write_project
from tests.support.waiting import wait_until

ray_and_slow = [pytest.mark.ray, pytest.mark.slow, pytest.mark.xdist_group("ray")]


def marked(test):
    for mark in ray_and_slow:
        test = mark(test)
    return test


@pytest.fixture
def project(tmp_path):
    text = RECIPE.replace("candidates/*", f"{tmp_path}/candidates/*")
    text = text.replace("data/eval", f"{tmp_path}/data/eval")
    return write_project(tmp_path, text.replace("output: merged", f"output: {tmp_path}/merged"))


def look_at(*arguments, head, home, env=None):
    given = head.environment if env is None else env
    done = metafuse("doctor", "--address", head.address, "--json", *arguments, env=given, home=home)
    found = {f["what"]: (f["is_good"], f["text"]) for f in json.loads(done.stdout)["findings"]}
    assert done.returncode == (0 if all(good for good, _ in found.values()) else 40), done.stdout
    return found


@marked
def test_a_cluster_with_a_token_is_looked_at_from_within(project, tmp_path, monkeypatch):
    with ray_head(tmp_path) as head:
        found = look_at("--recipe", project, head=head, home=tmp_path)
        assert found["jobs api"][0]
        assert found["hosts"] == (True, "1 alive, 1 of them with CPUs for work")
        assert found["metafuse of the hosts"][1] == "shipped with the job everywhere"
        assert found["workers' output"][0]
        assert found["workers' sources"][0]
        assert found["resources of one evaluation"][0]
        left = {path.name for path in (tmp_path / "merged").rglob("*") if path.is_file()}
        assert left <= {".metafuse-lock"}
        greedy = project.read_text() + "resources: {evaluate: {num_gpus: 1}}\n"
        project.write_text(greedy.replace("data/eval.parquet", "data/other.parquet"))
        found = look_at("--recipe", project, head=head, home=tmp_path)
        good, text = found["resources of one evaluation"]
        assert not good
        assert "no host has CPU 1, GPU 1; the most there is on one: CPU 2, GPU 0" in text
        assert not found["workers' sources"][0]
        assert "other.parquet does not exist" in found["workers' sources"][1]
        for name, value in head.environment.items():
            monkeypatch.setenv(name, value)
        assert list_jobs(connect(head.address)) == ()  # it cleans up
        found = look_at(head=head, home=tmp_path, env={})
        assert found["jobs api"][0] is False
        assert "wants a token and none was found" in found["jobs api"][1]


@marked
def test_an_open_cluster_is_named_and_so_is_a_token_that_protects_nothing(tmp_path):
    with ray_head(tmp_path, with_token=False) as head:
        good, text = look_at(head=head, home=tmp_path)["jobs api"]
        assert not good
        assert "is open: whoever reaches it can run code" in text
        assert "protects nothing" not in text
        env = {"RAY_AUTH_TOKEN": "f" * 64}
        good, text = look_at(head=head, home=tmp_path, env=env)["jobs api"]
        assert not good
        assert "the token from RAY_AUTH_TOKEN protects nothing there" in text


@marked
@pytest.mark.s3
def test_a_host_that_cannot_reach_the_bucket_is_found(tmp_path, moto):
    elsewhere = {**moto, "AWS_ENDPOINT_URL_S3": "http://127.0.0.1:1"}
    with (
        ray_head(tmp_path, num_cpus=0, env=moto) as head,
        ray_worker(head, tmp_path, env=elsewhere),
    ):
        hosts = wait_until(
            lambda: (
                (found := look_at("s3://plain/seen", head=head, home=tmp_path))
                and found["hosts"][1].startswith("2 alive")
                and found
            )
        )
    assert hosts["hosts"] == (True, "2 alive, 1 of them with CPUs for work")
    assert hosts["store"][0]
    good, text = hosts["workers' output"]
    assert not good
    assert text.startswith("s3://plain/seen from 1 hosts: ")
    assert "http://127.0.0.1:1" in text


def answers(*facts, resources=None):
    there = {"CPU": 4.0, "memory": 8e9} if resources is None else resources
    return [NodeAnswer(Node("", there, host=one.host), value=one, problem="") for one in facts]


def test_versions_that_differ_are_told_by_host():
    here = look_around(Look())
    other = replace(here, ray="2.59.1", host="h2")
    found = {f.what: f for f in compare_versions(here, answers(here, other))}
    assert not found["ray of the hosts"].is_good
    assert found["ray of the hosts"].text == f"driver {here.ray}, hosts 2.59.1 on h2"
    assert found["python of the hosts"].is_good


def test_resources_that_no_host_has_are_found(project):
    recipe = load_recipe(project)
    facts = look_around(Look())
    assert all(f.is_good for f in check_resources(recipe, answers(facts)))
    weak = answers(facts, resources={"memory": 8e9})
    evaluation, merge = check_resources(recipe, weak)
    assert not evaluation.is_good
    assert "CPU 0" in merge.text


def test_a_place_that_is_not_the_same_here_is_found(tmp_path):
    facts = look_around(Look(output=str(tmp_path), mark="doctor-mark"))
    assert "is not the same place here" in facts.store
    (tmp_path / "doctor-mark").write_bytes(b"x")
    assert look_around(Look(output=str(tmp_path), mark="doctor-mark")).store == ""
