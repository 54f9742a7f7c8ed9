import pytest

import jobs.submit.submit
from jobs.cli.main import main
from jobs.errors import RecipeError
from jobs.recipes.recipe import load_recipe, unattended
from jobs.submit.runtime_env import find_secrets, load_runtime_env
from jobs.submit.submit import entrypoint, find_local_places, load_submission
from tests.support.tiny_lstm import RECIPE

REMOTE = RECIPE.replace("[candidates/*]", "[s3://b/c/*]").replace("data/eval", "s3://b/eval")
REMOTE = REMOTE.replace("output: merged", "output: s3://b/merged")
DATE = "2026-11-24"


def write(tmp_path, text, name="recipe.yaml"):
    path = tmp_path / name
    path.write_text(text)
    return path


def test_places_of_this_machine_are_refused_all_at_once(tmp_path):
    path = write(tmp_path, RECIPE.replace("data/eval.parquet", "~/eval.parquet"))
    with pytest.raises(RecipeError) as caught:
        load_submission(path, DATE)
    assert str(caught.value).splitlines()[1:] == [
        "candidates: candidates/*", "task.data: ~/eval.parquet", "output: merged",
    ]  # fmt: skip


def test_absolute_places_are_named_for_a_warning(tmp_path):
    text = REMOTE.replace("s3://b/merged", "/mnt/merged")
    found = load_submission(write(tmp_path, text), DATE)
    assert find_local_places(found.recipe) == ("/mnt/merged",)


def test_a_mistake_in_the_recipe_is_found_before_the_cluster_is_asked(tmp_path, capsys):
    path = write(tmp_path, REMOTE.replace("kind:", "knd:"))
    with pytest.raises(SystemExit) as left:
        main(["submit", str(path), "--address", "http://127.0.0.1:1"])
    assert left.value.code == 10
    assert "nothing was read or written" in capsys.readouterr().err


def test_without_an_address_nothing_is_guessed(tmp_path, capsys, monkeypatch):
    for name in ("RAY_API_SERVER_ADDRESS", "RAY_ADDRESS"):
        monkeypatch.delenv(name, raising=False)
    with pytest.raises(SystemExit) as left:
        main(["submit", str(write(tmp_path, REMOTE))])
    assert left.value.code == 2
    assert "RAY_API_SERVER_ADDRESS" in capsys.readouterr().err


def test_an_address_where_nothing_listens_is_40(tmp_path, capsys):
    with pytest.raises(SystemExit) as left:
        main(["submit", str(write(tmp_path, REMOTE)), "--address", "http://127.0.0.1:1"])
    assert left.value.code == 40
    assert "nothing answers at http://127.0.0.1:1" in capsys.readouterr().err


def test_the_entrypoint_is_quoted_and_joins_the_cluster_it_runs_on(tmp_path):
    path = write(tmp_path, REMOTE, "my recipe.yaml")
    asked = load_submission(path, DATE)
    assert entrypoint(asked) == (
        "exec python -m jobs run 'my recipe.yaml' --date 2026-11-24 --address auto --unattended"
    )
    assert entrypoint(load_submission(path, DATE, with_code=False)).startswith("exec metafuse run")


def test_where_nobody_watches_more_evidence_is_asked_unless_the_recipe_says(tmp_path):
    silent = load_recipe(write(tmp_path, REMOTE))
    assert (silent.gate.alpha, unattended(silent).gate.alpha) == (0.05, 0.005)
    assert unattended(silent).digest != silent.digest
    spoken = load_recipe(write(tmp_path, REMOTE + "gate: {alpha: 0.05}\n"))
    assert unattended(spoken) == spoken
    other = load_recipe(write(tmp_path, REMOTE + "gate: {smallest_effect: 0.02}\n"))
    assert unattended(other).gate.smallest_effect == 0.02


@pytest.mark.parametrize(
    "variable",
    [
        "AWS_SECRET_ACCESS_KEY", "AWS_ACCESS_KEY_ID", "AWS_SESSION_TOKEN", "HF_TOKEN", "PGPASSWORD",
        "RAY_AUTH_TOKEN", "api_key", "GITHUB_TOKEN_2", "MY_SECRET_VALUE", "DB_PASSWORD_MAIN",
    ],
)  # fmt: skip
def test_a_secret_in_the_runtime_environment_is_refused_and_not_repeated(tmp_path, variable):
    path = write(tmp_path, f"env_vars: {{{variable}: canary-7f3a, FINE: x}}\n", "env.yaml")
    with pytest.raises(RecipeError, match=rf"env_vars\.{variable} may hold") as caught:
        load_runtime_env(path)
    assert "canary" not in str(caught.value)
    assert "role" in caught.value.hint


@pytest.mark.parametrize(
    "value",
    [
        "https://user:canary@index.example/simple", "-----BEGIN RSA PRIVATE KEY-----",
        "AKIAIOSFODNN7EXAMPLE", "hf_abcdefghijklmnopqrstuvwxyz",
    ],
)  # fmt: skip
def test_a_secret_is_known_by_its_value_too(value):
    assert list(find_secrets({"pip": ["x", value]})) == ["pip.1"]


def test_what_is_no_secret_passes(tmp_path):
    text = (
        "pip: [tomli==2.0.1]\nenv_vars: {AWS_REGION: eu-west-1, MAX_TOKENS: '5', "
        "TOKENIZERS_PARALLELISM: 'false', RAY_AUTH_TOKEN_PATH: /etc/ray/token, "
        "AWS_WEB_IDENTITY_TOKEN_FILE: /var/run/token, INDEX: 'https://index.example/simple'}\n"
    )
    found = load_runtime_env(write(tmp_path, text, "env.yaml"))
    assert found["env_vars"]["MAX_TOKENS"] == "5"


@pytest.mark.parametrize("text", ["working_dir: .\n", "py_modules: [x]\n", "- a\n"])
def test_what_submit_sets_itself_is_refused(tmp_path, text):
    with pytest.raises(RecipeError, match="nothing was submitted"):
        load_runtime_env(write(tmp_path, text, "env.yaml"))


@pytest.mark.parametrize(("asked", "sent"), [({}, None), ({"METAFUSE_LOG": "json"}, "json")])
def test_how_to_log_travels_with_a_job(monkeypatch, asked, sent):
    monkeypatch.delenv("METAFUSE_LOG", raising=False)
    for name, value in asked.items():
        monkeypatch.setenv(name, value)
    assert jobs.submit.submit._log_variable().get("METAFUSE_LOG") == sent
