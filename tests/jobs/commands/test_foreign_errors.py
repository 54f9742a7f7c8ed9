"""Errors of libraries at our borders are the user's to mend, or the store's: never our bug."""

import io
import json

import pytest
import torch
from safetensors.torch import load_file, save_file

from tests.support.calling import call, edit_recipe, plan


def test_a_whole_number_of_5000_digits_is_a_mistake_in_its_line(capsys, project):
    edit_recipe(project, "name:", f"limit: {'9' * 5000}\nname:")
    status, _, err = plan(capsys, project)
    assert status == 10
    assert "recipe.yaml:1: limit: a number of 5,000 digits is not read" in err


def test_a_table_with_two_columns_of_one_name_is_refused(capsys, project):
    lines = [f"good film {i},1,1" for i in range(40)]
    (project / "data" / "eval.csv").write_text("\n".join(["text,label,label", *lines]) + "\n")
    edit_recipe(project, "data/eval.parquet", "data/eval.csv")
    recipe = project / "recipe.yaml"
    recipe.write_text(recipe.read_text().replace(", id: id", ""))
    status, _, err = plan(capsys, project)
    assert status == 10
    assert "2 columns called 'label'" in err


def test_text_that_is_not_utf_8_is_named_by_its_line(capsys, project, monkeypatch):
    lines = io.BytesIO("good film\nmauvais caf\u00e9\n".encode("latin-1"))
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(lines, encoding="utf-8"))
    status, _, err = call(capsys, "predict", project / "candidates" / "a")
    assert status == 10
    assert "line 2 of stdin has the byte 0xE9: it is not UTF-8" in err


def test_complex_numbers_are_refused_before_the_plan(capsys, project):
    for folder in (project / "candidates").iterdir():
        tensors = load_file(folder / "model.safetensors")
        tensors["extra.phase"] = torch.ones(3, dtype=torch.complex64)
        save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
    status, _, err = plan(capsys, project)
    assert status == 12
    assert "a dtype that is not averaged, first extra.phase: C64" in err


@pytest.mark.parametrize("score", [10**400, "1e9", None])
def test_a_score_of_a_tokenizer_beyond_all_numbers_leaves_its_candidate_out(capsys, project, score):
    path = project / "candidates" / "a" / "tokenizer.json"
    path.write_text(json.dumps({"model": {"type": "Unigram", "vocab": [["a", score], ["b", []]]}}))
    status, out, err = plan(capsys, project)
    assert status in {0, 12, 13}, err
    assert "a: E-INCOMPLETE" in out
    assert "is not a tokenizer" in out
