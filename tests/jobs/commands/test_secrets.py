"""Secrets in nine places, runs that end well and badly, and none of them in what is left."""

import pytest

from cluster.stores.open_store import open_store
from jobs.console.secret_texts import check_no_secrets, mask
from jobs.errors import RecipeError
from jobs.recipes.recipe import parse_merge_block, parse_recipe
from tests.support.canaries import CANARIES, canary_scene
from tests.support.hooks import SECRET, listening_hook
from tests.support.tiny_lstm import RECIPE

DAY = "2026-11-24"
BUG = """
import os, sys
import fusion.evidence.selection
def broken(*_, **__):
    raise RuntimeError(f"could not sign {dict(os.environ)} for {os.environ['AWS_ENDPOINT_URL_S3']}")
fusion.evidence.selection.choose = broken
from jobs.cli.main import main
main(sys.argv[1:])
"""


@pytest.fixture
def place(moto, use, project):
    """Candidates and data in a bucket; returns its URI."""
    use(moto)
    store = open_store("s3://plain/canaries")
    for entry in list(store.list()):
        store.delete(entry.key)
    for path in project.rglob("*"):
        if path.is_file():
            store.put(path.relative_to(project).as_posix(), path.read_bytes())
    return store.uri


def recipe_of(place, output, more=""):
    text = RECIPE.replace("candidates/*", f"{place}/candidates/*")
    text = text.replace("data/eval", f"{place}/data/eval")
    return text.replace("output: merged", f"output: {place}/{output}") + "notify: {}\n" + more


def signed(uri):
    return f"{uri}?X-Amz-Algorithm=AWS4-HMAC-SHA256&X-Amz-Signature={CANARIES['signed URL']}"


@pytest.mark.slow
@pytest.mark.ray
@pytest.mark.s3
@pytest.mark.xdist_group("ray")
def test_a_run_and_its_failures_leave_no_secret_anywhere(moto, seaweedfs, place, tmp_path):
    (tmp_path / "recipe.yaml").write_text(recipe_of(place, "merged"))
    with (
        listening_hook() as hook,
        canary_scene(tmp_path, moto["AWS_ENDPOINT_URL_S3"], hook.url, hook.place) as scene,
    ):
        done = scene.call("run", "recipe.yaml", "--date", DAY)
        assert done.returncode == 0, done.stderr
        away = "http://night:canary-endpoint-pass-51d9@127.0.0.1:9"
        unreachable = scene.call("run", "recipe.yaml", "--date", DAY, AWS_ENDPOINT_URL_S3=away)
        assert unreachable.returncode == 21, unreachable.stderr
        key, secret = "AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"
        by_profile = {key: None, secret: None, "AWS_SESSION_TOKEN": None, "AWS_PROFILE": "night"}
        same = scene.call("run", "recipe.yaml", "--date", "2026-11-26", "--json", **by_profile)
        assert same.returncode == 3, same.stderr
        # This server knows none of these keys.
        strange = {"AWS_ENDPOINT_URL_S3": seaweedfs["AWS_ENDPOINT_URL_S3"]}
        refused = scene.call("run", "recipe.yaml", "--date", DAY, **strange)
        assert (refused.returncode, "E-ACCESS" in refused.stderr) == (21, True), refused.stderr
        head = scene.call("submit", "recipe.yaml", "--address", "http://127.0.0.1:9")
        assert head.returncode == 40, head.stderr
        bug = scene.run_script(BUG, "run", "recipe.yaml", "--date", "2026-11-25", "--json")
        found = scene.find(place)
        kept = [where for where, _ in scene.texts(place)]
    assert CANARIES["METAFUSE_WEBHOOK"] == SECRET
    assert [body["event"] for body in hook.bodies] == [
        "promoted", "failed", "failed", "failed", "failed",
    ]  # fmt: skip
    assert bug.returncode == 70
    assert '"E-BUG"' in bug.stdout
    assert any("/logs/" in where for where in kept)
    assert any(where.endswith("report.html") for where in kept)
    assert not found


@pytest.mark.parametrize(
    "line",
    [
        f"candidates: ['{signed('s3://bucket/step-9')}']",
        f"candidates: ['{signed('https://bucket.s3.amazonaws.com/step-9')}']",
        "base: https://storage.example/m?sv=1&sig=canary%2Bsig",
        "base: s3://night:canary-password@bucket/x",
        "base: https://canary-token@host/x",
        "# AKIAIOSFODNN7CANARY1",
        f"# {CANARIES['HF_TOKEN']}",
        "notify: {url_env: 'https://hooks.slack.com/services/T00/canary'}",
        f"name: {CANARIES['AWS_SECRET_ACCESS_KEY']}",
    ],
)
def test_a_document_with_a_secret_is_refused_and_nothing_of_it_repeated(monkeypatch, line):
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", CANARIES["AWS_SECRET_ACCESS_KEY"])
    for parse in (parse_recipe, parse_merge_block):
        with pytest.raises(RecipeError, match=r"r\.yaml:2: ") as caught:
            parse(f"output: x\n{line}\n", name="r.yaml", folder="/")
        said = str(caught.value) + caught.value.hint
        assert "canary" not in said.lower()
        assert line[-8:] not in said


@pytest.mark.parametrize(
    "text",
    [
        "candidates: [s3://bucket/run-4?/step-*, ./ckpts/seed-[7-9]]",
        "task: {data: s3://bucket/eval@2026/reviews.parquet}",
        "columns: {text: token_text, label: key}",
        "# ask team@example.com; page https://example.com/?page=2",
    ],
)
def test_what_is_no_secret_passes(text):
    check_no_secrets(text, name="r.yaml", environment={"HF_TOKEN": "", "MY_TOKEN": "token"})


def test_what_is_shown_is_masked():
    environment = {"HF_TOKEN": CANARIES["HF_TOKEN"], "AWS_REGION": "eu-west-1-long-enough"}
    text = f"at {signed('https://u:p@host/x')} with {CANARIES['HF_TOKEN']} in eu-west-1-long-enough"
    assert mask(text, environment) == (
        "at https://***@host/x?X-Amz-Algorithm=***&X-Amz-Signature=*** with *** in "
        "eu-west-1-long-enough"
    )
