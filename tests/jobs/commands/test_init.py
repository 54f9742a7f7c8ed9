"""A first recipe: what is written can be planned as it is, and guesses are said to be guesses."""

import csv
import json
import shutil
from pathlib import Path

import pytest

from jobs.recipes.recipe import load_recipe
from tests.support.calling import call
from tests.support.tiny_lstm import make_sentences
from tests.support.tiny_models import edit_config, write_classifier

NAMES = ("negative", "positive")


@pytest.fixture
def here(project, monkeypatch):
    """The project without a recipe, as the working directory."""
    (project / "recipe.yaml").unlink()
    monkeypatch.chdir(project)
    return project


def write_csv(path, head, rows):
    path.parent.mkdir(exist_ok=True)
    with path.open("w", newline="") as stream:
        csv.writer(stream).writerows([head, *rows])


def rows_of(count=800, label=lambda number: NAMES[number]):
    texts, labels = make_sentences(count)
    return [(text, label(number)) for text, number in zip(texts, labels, strict=True)]


def planned(capsys, path="recipe.yaml"):
    status, out, err = call(capsys, "plan", path)
    assert status == 0, err
    return out


def test_a_first_recipe_is_planned_as_it_is(capsys, here):
    status, out, err = call(capsys, "init", "candidates", "--data", "data/eval.parquet")
    assert (status, err) == (0, "")
    assert "text-classification, 4 candidates" in out
    assert "metafuse plan recipe.yaml" in out
    assert "4 candidates" in planned(capsys)
    recipe = load_recipe(Path("recipe.yaml"))
    assert recipe.task.columns == {
        "text": "text", "label": "label", "id": "id", "cluster": None,
    }  # fmt: skip
    # A hundredth of the entropy of the labels, about ln 2, at one digit.
    assert recipe.gate.smallest_effect == 0.007


@pytest.mark.parametrize(
    ("head", "label", "expected"),
    [
        (("review", "stars"), lambda number: number + 1, {"1": "negative", "2": "positive"}),
        (("tweet", "sentiment"), lambda number: NAMES[number].upper(),
         {"NEGATIVE": "negative", "POSITIVE": "positive"}),
        (("body", "class"), lambda number: NAMES[number], {}),
        (("what they said", "verdict"), lambda number: number, {}),
    ],
)  # fmt: skip
def test_columns_and_labels_are_found(capsys, here, head, label, expected):
    write_csv(here / "eval.csv", head, rows_of(label=label))
    assert call(capsys, "init", "candidates", "--data", "eval.csv")[0] == 0
    task = load_recipe(Path("recipe.yaml")).task
    assert (task.columns["text"], task.columns["label"]) == head
    assert task.labels == expected
    assert ("A guess, to be looked at" in Path("recipe.yaml").read_text()) == bool(expected)
    planned(capsys)


def test_labels_that_nothing_tells_are_left_open_and_said(capsys, here):
    write_csv(here / "eval.csv", ("text", "label"), rows_of(label=lambda n: ("no", "yes!")[n]))
    status, _, err = call(capsys, "init", "candidates", "--data", "eval.csv")
    text = Path("recipe.yaml").read_text()
    assert (status, '"no": "?"' in text, '"yes!": "?"' in text) == (0, True, True)
    assert "plan refuses the recipe as it is" in err
    assert "task.labels.no" in err


def test_few_examples_give_the_gate_more_of_them(capsys, here):
    write_csv(here / "eval.csv", ("text", "label"), rows_of(230))
    status, _, err = call(capsys, "init", "candidates", "--data", "eval.csv")
    assert (status, err) == (0, "")
    assert load_recipe(Path("recipe.yaml")).task.slices.gate == 0.55
    planned(capsys)


def test_what_plan_would_refuse_is_said_at_once(capsys, here):
    write_csv(here / "eval.csv", ("text", "label"), rows_of(60))
    status, _, err = call(capsys, "init", "candidates", "--data", "eval.csv")
    assert status == 0
    assert "plan refuses the recipe as it is: E-DATA" in err
    assert call(capsys, "plan", "recipe.yaml")[0] == 10


def test_without_data_the_recipe_says_what_lacks(capsys, here):
    status, _, err = call(capsys, "init", "candidates")
    assert (status, "task.data is yet to be named" in err) == (0, True)
    assert load_recipe(Path("recipe.yaml")).task.data.endswith("evaluation.parquet")


def test_an_existing_file_keeps_its_bytes(capsys, here):
    Path("recipe.yaml").write_text("mine\n")
    status, _, err = call(capsys, "init", "candidates")
    assert (status, "was not written over" in err, "--write" in err) == (21, True, True)
    assert Path("recipe.yaml").read_text() == "mine\n"


def test_nothing_is_written_where_nothing_is_found(capsys, here):
    for places, status in ((["nowhere"], 13), (["data"], 13)):
        assert call(capsys, "init", *places)[0] == status
    status, _, err = call(capsys, "init", "candidates", "--data", "data/none.csv")
    assert (status, "none.csv" in err) == (10, True)
    write_csv(here / "eval.csv", ("number", "other"), [(i, i * i) for i in range(300)])
    status, _, err = call(capsys, "init", "candidates", "--data", "eval.csv")
    assert (status, "looks like text" in err, "['number', 'other']" in err) == (10, True, True)
    assert not Path("recipe.yaml").exists()


def test_a_recipe_elsewhere_names_whole_paths(capsys, here):
    Path("sub folder").mkdir()
    target = "sub folder/mine.yaml"
    data = ["--data", "data/eval.parquet"]
    assert call(capsys, "init", "candidates", *data, "--write", target)[0] == 0
    recipe = load_recipe(Path(target))
    assert recipe.candidates == (str(here / "candidates"),)
    assert recipe.output == str(here / "merged")
    planned(capsys, target)


def test_names_that_yaml_would_read_otherwise(capsys, here):
    Path("candidates").rename("true")
    Path("data #1: x").mkdir()
    shutil.copy("data/eval.parquet", "data #1: x/1e3.parquet")
    assert call(capsys, "init", "true", "--data", "data #1: x/1e3.parquet")[0] == 0
    planned(capsys)


def test_stdout_takes_the_recipe_alone(capsys, here):
    status, out, _ = call(
        capsys, "init", "candidates", "--data", "data/eval.parquet", "--write", "-"
    )
    assert status == 0
    Path("piped.yaml").write_text(out)
    planned(capsys, "piped.yaml")


def test_a_folder_of_a_trainer_stands_for_its_checkpoints_too(capsys, here):
    for name in "ab":
        Path(f"candidates/{name}").rename(f"candidates/c/checkpoint-{name}")
    assert call(capsys, "init", "candidates/c", "--data", "data/eval.parquet")[0] == 0
    assert "3 candidates" in planned(capsys)


def test_folders_further_down_are_found(capsys, here):
    Path("runs/today").mkdir(parents=True)
    Path("candidates").rename("runs/today/candidates")
    assert call(capsys, "init", "runs", "--data", "data/eval.parquet")[0] == 0
    assert "4 candidates" in planned(capsys)


def test_a_model_that_says_a_number_is_asked_for_one(capsys, here):
    for seed, name in enumerate("xy"):
        write_classifier(Path("values") / name, "bert", seed=seed, labels=("LABEL_0",))
        edit_config(Path("values") / name, problem_type="regression")
    shutil.copy("values/x/tokenizer.json", "values/y")
    capsys.readouterr()
    rows = [(text, number / 7 + len(text)) for text, number in rows_of(label=float)]
    write_csv(here / "eval.csv", ("sentence", "score"), rows)
    status, out, err = call(capsys, "init", "values", "--data", "eval.csv")
    assert (status, err) == (0, "")
    assert "regression, 2 candidates" in out
    planned(capsys)


def test_a_head_that_no_kind_asks_is_refused(capsys, here):
    for name in "abcd":
        config = Path("candidates", name, "config.json")
        table = json.loads(config.read_text())
        config.write_text(json.dumps({**table, "architectures": ["BertForTokenClassification"]}))
    status, _, err = call(capsys, "init", "candidates")
    assert (status, "a class for each token" in err, "metafuse merge" in err) == (10, True, True)
    assert not Path("recipe.yaml").exists()
