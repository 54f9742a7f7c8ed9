"""`plan` refuses the models and the truths that no evaluation could use."""

import json

import pyarrow as pa
import pytest
from pyarrow import parquet

from tests.support.calling import call, edit_recipe, plan
from tests.support.tiny_models import edit_config


def edit_all(project, **changes):
    for folder in (project / "candidates").iterdir():
        edit_config(folder, **changes)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"problem_type": "multi_label_classification"}, "decides on several labels at once"),
        ({"id2label": {"0": "LABEL_0"}}, "says a number (one output"),
        ({"problem_type": "regression"}, "says a number"),
        ({"id2label": {"no": "negative", "yes": "positive"}}, "id2label does not number labels"),
    ],
    ids=["several labels", "one output", "problem type", "keys that are no numbers"],
)
def test_a_model_with_another_head_is_refused_by_plan(capsys, project, changes, message):
    edit_all(project, **changes)
    status, _, err = plan(capsys, project)
    assert status == 10
    assert "E-MODEL" in err
    assert message in err


def test_models_without_tokenizers_are_refused_by_plan(capsys, project):
    for folder in (project / "candidates").iterdir():
        (folder / "vocab.txt").unlink()
    status, _, err = plan(capsys, project)
    assert status == 10
    assert "E-MODEL" in err
    assert "a has no tokenizer files" in err


def test_tokenizers_larger_than_the_embedding_are_refused_by_plan(capsys, project):
    for folder in (project / "candidates").iterdir():
        words = (folder / "vocab.txt").read_text()
        (folder / "vocab.txt").write_text(words + "".join(f"more{i}\n" for i in range(64)))
    status, _, err = plan(capsys, project)
    assert (status, "E-MODEL" in err) == (10, True)
    assert "embedding of 64 rows, such as 'more63'" in err


def test_a_model_with_another_head_is_left_out_where_the_recipe_says_so(capsys, project):
    edit_config(project / "candidates" / "b", problem_type="multi_label_classification")
    status, _, err = plan(capsys, project)
    assert (status, "E-MODEL" in err) == (10, True)
    edit_recipe(project, "output:", "select: {on_mismatch: drop}\noutput:")
    status, out, _ = plan(capsys, project)
    assert status == 0
    assert "skip       b: E-MODEL b decides on several labels at once" in out


def test_where_all_models_have_another_head_none_is_left_out_in_silence(capsys, project):
    edit_all(project, problem_type="multi_label_classification")
    edit_recipe(project, "output:", "select: {on_mismatch: drop}\noutput:")
    status, _, err = plan(capsys, project)
    assert (status, "E-MODEL" in err) == (10, True)


def test_a_classifier_is_no_regression(capsys, project):
    edit_recipe(project, "kind: text-classification", "kind: regression")
    status, _, err = plan(capsys, project)
    assert status == 10
    assert "chooses one class; a model that says a number" in err


def shift_labels(project):
    path = project / "data" / "eval.parquet"
    table = parquet.read_table(path).to_pydict()
    table["label"] = [label + 1 for label in table["label"]]
    parquet.write_table(pa.table(table), path)


def test_stars_that_count_from_1_are_refused_and_mended_by_what_the_hint_says(capsys, project):
    shift_labels(project)
    status, _, err = plan(capsys, project)
    assert status == 10
    pasted = '{labels: {1: "negative", 2: "positive"}}'
    assert pasted in " ".join(err.split())
    edit_recipe(project, "  columns:", f"  {pasted[1:-1]}\n  columns:")
    assert plan(capsys, project)[0] == 0


@pytest.mark.long
def test_scores_as_json_keep_their_keys(capsys, project):
    status, out, _ = call(capsys, "evaluate", project / "candidates" / "a", "--task",
                          project / "recipe.yaml", "--slice", "rank", "--json")  # fmt: skip
    assert status == 0
    (found,) = json.loads(out)["scores"]
    assert found.keys() == {
        "name", "slice", "num_examples", "num_clusters", "loss", "loss_error", "accuracy",
        "macro_f1", "confidence", "brier",
    }  # fmt: skip
