import json
import shutil

import numpy as np
import pytest

from fusion.errors import MismatchError
from jobs.candidates.find import find_candidates, pin_base
from jobs.candidates.pin import pin_checkpoint
from jobs.commands.consume import run_predict
from jobs.commands.merge import run_merge
from jobs.commands.run import show_plan
from jobs.consume.resolve import resolve
from jobs.errors import IncompleteError, NoCandidatesError, RecipeError, SourceChangedError
from jobs.models.families import load_model
from jobs.recipes.recipe import load_recipe
from tests.support.predicting import probabilities
from tests.support.running import run_project
from tests.support.tiny_adapters import write_adapter_project

TEXTS = ["the phone was lovely", "a dull film and it was broken", "food"]


class Stop(Exception):
    pass


@pytest.fixture(scope="module")
def template(tmp_path_factory):
    return write_adapter_project(tmp_path_factory.mktemp("adapters"), output="adapter")


@pytest.fixture
def adapters(template, tmp_path):
    """A project with four adapters of a BERT as candidates, whose output is one adapter."""
    shutil.copytree(template, tmp_path / "project")
    return tmp_path / "project"


def edit(project, old, new):
    recipe = project / "recipe.yaml"
    text = recipe.read_text()
    assert old in text
    recipe.write_text(text.replace(old, new))


def predictions(checkpoint):
    return probabilities(load_model(checkpoint).model, TEXTS)


@pytest.mark.parametrize("output", [pytest.param("model", marks=pytest.mark.slow), "adapter"])
def test_a_run_with_adapters_promotes_their_average(adapters, output):
    edit(adapters, "{output: adapter}", f"{{output: {output}}}")
    result = run_project(adapters)
    assert (result.exit_status, result.outcome.result) == (0, "promoted")
    resolved = resolve(str(adapters / "merged"))
    names = {entry.name for entry in resolved.manifest.files}
    if output == "adapter":
        assert {"adapter_config.json", "adapter_model.safetensors"} <= names
        assert "model.safetensors" not in names
    else:
        assert {"config.json", "model.safetensors", "tokenizer.json"} <= names
    assert resolved.manifest.base.uri == str(adapters / "base")
    rows = {row.role: row.gate.loss for row in result.report.models}
    assert rows["fused"] < rows["best_single"]


def test_a_promoted_adapter_is_asked_with_the_base_that_its_manifest_names(adapters, capsys):
    run_project(adapters)
    run_predict([str(adapters / "merged")], TEXTS, base=None, as_json=True)
    promoted = list(map(json.loads, capsys.readouterr().out.splitlines()))
    assert [answer["answer"] for answer in promoted[:2]] == ["positive", "negative"]
    one = str(adapters / "candidates/a")
    run_predict([one], TEXTS, base=str(adapters / "base"), as_json=True)
    assert list(map(json.loads, capsys.readouterr().out.splitlines())) != promoted
    with pytest.raises(IncompleteError, match="is an adapter"):
        run_predict([one], TEXTS, base=None, as_json=True)


@pytest.mark.slow
def test_the_next_night_is_judged_against_the_promoted_adapter(adapters):
    run_project(adapters)
    path = adapters / "candidates/a/adapter_config.json"
    path.write_text(path.read_text() + "\n")
    result = run_project(adapters, date="2026-11-25")
    assert [c.role for c in result.report.verdict.comparisons] == ["incumbent", "best_candidate"]


@pytest.mark.slow
def test_a_base_that_changed_under_a_promoted_adapter_is_not_asked(adapters):
    run_project(adapters)
    path = adapters / "base/config.json"
    path.write_text(path.read_text() + "\n")
    with pytest.raises(SourceChangedError, match="no longer what it was when the adapter was made"):
        run_project(adapters, date="2026-11-25")


def test_an_interrupted_run_opens_base_and_adapters_as_they_were_frozen(adapters):
    def stop(step, *_):
        if step.startswith("merge"):
            raise Stop

    with pytest.raises(Stop):
        run_project(adapters, say=stop)
    result = run_project(adapters)
    assert (result.run, result.outcome.result) == ("nightly-2026-11-24", "promoted")


@pytest.mark.slow
def test_a_base_that_changed_under_an_unfinished_run_ends_it(adapters):
    def stop(step, *_):
        if step.startswith("merge"):
            raise Stop

    with pytest.raises(Stop):
        run_project(adapters, say=stop)
    path = adapters / "base/config.json"
    path.write_text(path.read_text() + "\n")
    with pytest.raises(SourceChangedError, match=r"base/config\.json"):
        run_project(adapters)
    assert run_project(adapters).run == "nightly-2026-11-24.2"


def test_an_adapter_predicts_as_its_dense_merge_does(adapters):
    whole = pin_base(str(adapters / "base"))
    (adapters / "one.yaml").write_text(f"candidates: ['{adapters}/candidates/a']\nbase: base\n")
    run_merge(adapters / "one.yaml", str(adapters / "dense"), memory="1GiB", as_json=True)
    dense, _ = pin_checkpoint(str(adapters / "dense"), name="dense")
    adapter, _ = pin_checkpoint(str(adapters / "candidates/a"), name="a", base=whole)
    found = predictions(adapter)
    assert np.array_equal(found, predictions(dense))
    assert np.abs(found - predictions(whole.checkpoint)).max() > 0.01


def test_one_adapter_predicts_as_the_average_of_the_models_does(adapters):
    for output in ("model", "adapter"):
        config = adapters / f"{output}.yaml"
        config.write_text(
            "candidates: [candidates/a, candidates/c]\nbase: base\n"
            f"merge: {{output: {output}}}\n"
        )  # fmt: skip
        run_merge(config, str(adapters / f"as-{output}"), memory="1GiB", as_json=True)
    found = find_candidates(
        [str(adapters / "as-adapter"), str(adapters / "as-model")],
        settle_seconds=0, now=0, base=str(adapters / "base"),
    )  # fmt: skip
    one, dense = map(predictions, found.candidates)
    assert np.abs(one - dense).max() < 1e-5


def test_a_plan_counts_factors_and_says_what_is_odd(adapters, capsys):
    path = adapters / "candidates/b/adapter_config.json"
    settings = json.loads(path.read_text())
    path.write_text(json.dumps({**settings, "base_model_name_or_path": "other"}))
    assert show_plan(adapters / "recipe.yaml", as_json=False) == 0
    shown = capsys.readouterr()
    assert "trained on 2 models: tiny (a, c, d); other (b)" in shown.err
    assert "use        a" in shown.out


def test_a_base_must_be_one_whole_checkpoint(adapters):
    edit(adapters, "base: base", "base: candidates")
    with pytest.raises(NoCandidatesError, match="stands for 4 checkpoints"):
        run_project(adapters)


def test_one_adapter_needs_a_base(adapters):
    edit(adapters, "base: base\n", "")
    with pytest.raises(RecipeError, match=r"merge\.output: adapter needs base"):
        load_recipe(adapters / "recipe.yaml")


def test_a_whole_candidate_among_adapters_stops_a_run_that_makes_an_adapter(adapters):
    shutil.copytree(adapters / "base", adapters / "candidates/whole")
    with pytest.raises(MismatchError, match="whole is a whole checkpoint"):
        run_project(adapters)
