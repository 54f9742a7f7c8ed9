"""A real S3 server that ignores If-Match and If-None-Match."""

import uuid

import pytest

from cluster.stores.open_store import open_store
from jobs.consume.resolve import resolve
from jobs.errors import PointerError
from jobs.outputs.pointer import read_pointer
from tests.jobs.commands.test_operate import call
from tests.jobs.run.test_conclude_machine import check_chain
from tests.support.deaf_proxy import DeafProxy
from tests.support.light_runs import drive
from tests.support.running import run_project

pytestmark = pytest.mark.s3


@pytest.fixture
def output(moto, use):
    upstream = moto["AWS_ENDPOINT_URL_S3"]
    with DeafProxy(upstream, "If-Match", "If-None-Match", methods=("PUT",)) as proxy:
        use({**moto, "AWS_ENDPOINT_URL_S3": proxy.url})
        yield f"s3://plain/{uuid.uuid4().hex}"


def point_to(project, output, *more):
    recipe = project / "recipe.yaml"
    lines = [recipe.read_text().replace("output: merged", f"output: {output}"), *more]
    recipe.write_text("\n".join(lines))
    return recipe


def test_a_run_is_refused_before_any_work_is_paid_for(project, output):
    point_to(project, output)

    def no_workers():
        raise AssertionError("nothing may be computed")

    with pytest.raises(PointerError, match="ignores conditional writes") as caught:
        run_project(project, make_runner=no_workers)
    assert "single_writer: true" in caught.value.hint
    assert not list(open_store(output).list())


@pytest.mark.long
def test_with_single_writer_it_promotes_and_the_report_says_so(project, output):
    point_to(project, output, "single_writer: true")
    result = run_project(project)
    assert (result.exit_status, result.outcome.result) == (0, "promoted")
    (note,) = [note for note in result.report.notes if "conditional" in note]
    assert "single_writer" in note
    assert resolve(output).pointer.run == "nightly-2026-11-24"
    assert run_project(project).exit_status == 3


def test_plan_and_doctor_say_it(project, output, capsys):
    recipe = point_to(project, output)
    code, said = call(capsys, "plan", recipe)
    assert code == 0
    assert said["promotion"].endswith("no safe promotion: a run will be refused")
    code, said = call(capsys, "doctor", output)
    (finding,) = [f for f in said["findings"] if f["what"] == "promotion"]
    assert (code, finding["is_good"]) == (21, False)


def test_by_hand_somebody_has_to_vouch(output, capsys):
    store = open_store(output)
    drive(store, "2026-11-21")
    drive(store, "2026-11-22")
    words = ("rollback", output, "--reason", "bad")
    code, said = call(capsys, *words)
    assert (code, said["error"]) == (11, "E-POINTER")
    assert read_pointer(store).pointer.run == "nightly-2026-11-22"
    code, said = call(capsys, *words, "--single-writer")
    assert (code, said["after"]["run"]) == (0, "nightly-2026-11-21")
    assert call(capsys, "gc", output, "--older-than", "0")[0] == 11
    check_chain(store)


def test_the_key_does_not_make_another_run_of_it(project):
    from jobs.recipes.recipe import load_recipe

    recipe = project / "recipe.yaml"
    before = load_recipe(recipe).digest
    recipe.write_text(recipe.read_text() + "single_writer: true\n")
    assert load_recipe(recipe).digest == before
