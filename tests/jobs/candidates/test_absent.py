"""What may have been meant by a place where nothing is."""

import pytest

from jobs.candidates.absent import describe_absent
from tests.support.calling import call
from tests.support.merge_command import DOCUMENT
from tests.support.merging import random_tensors, write_checkpoint

DOWNLOAD = "ids of the Hugging Face hub are not downloaded: hf download"


@pytest.fixture
def here(tmp_path, monkeypatch):
    for name in ("ckpts/step-1000", "ckpts/step-2000", "flan-t5-base", ".hidden"):
        (tmp_path / name).mkdir(parents=True)
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.parametrize(
    ("place", "near"),
    [
        ("ckpts/step-100", "ckpts/step-1000"),
        ("ckpt/step-2000", "ckpts/step-2000"),
        ("Ckpts", "ckpts"),
        ("flan-t5-bse", "flan-t5-base"),
        ("file://{here}/flan-t5", "flan-t5-base"),
        ("{here}/ckpt/step-2000/", "ckpts/step-2000"),
    ],
)
def test_the_folder_that_is_most_like_it_is_asked_about(here, place, near):
    place = place.format(here=here)
    assert describe_absent(place) == f"; did you mean {here / near}?"


@pytest.mark.parametrize("name", ["google/flan", "org.x/Qwen2.5-0.5B_it", "bert-base-uncased"])
def test_what_may_be_an_id_of_the_hub_comes_with_the_command_that_brings_it_there(here, name):
    assert describe_absent(name) == f"; {DOWNLOAD} {name} --local-dir {here / name} brings {name}"
    assert describe_absent(str(here / name)) == describe_absent(name)


def test_an_id_whose_model_lies_here_comes_with_both(here):
    said = describe_absent("google/flan-t5-base")
    assert said.startswith(f"; did you mean {here}/flan-t5-base?; {DOWNLOAD} google/flan-t5-base ")


def test_a_set_of_data_is_brought_as_such(here):
    said = describe_absent("stanfordnlp/imdb", kind="dataset")
    assert "hf download --repo-type dataset stanfordnlp/imdb --local-dir" in said


@pytest.mark.parametrize(
    "place",
    [
        "ckpts",  # it is there
        "zzz/data.csv",
        "zzz/model.safetensors",
        "a/b/c",
        "ckpts/zzz",  # one name below a folder that is there
        "/zzz/model",
        "s3://bucket/google/flan",
        "memory://google/flan",
        "zz z/model",
    ],
)
def test_of_other_places_there_is_no_more_to_say(here, place):
    assert describe_absent(place) == ""


@pytest.mark.parametrize(
    "command",
    [
        ("evaluate", "google/flan", "--task", "recipe.yaml"),
        ("predict", "google/flan", "--text", "a"),
        ("init", "google/flan", "--write", "-"),
    ],
    ids=["evaluate", "predict", "init"],
)
def test_every_verb_that_reads_models_says_so(project, monkeypatch, capsys, command):
    monkeypatch.chdir(project)
    status, _, err = call(capsys, *command)
    assert (status, f"{DOWNLOAD} google/flan " in err) == (13, True)


def test_a_recipe_says_so_of_candidates_base_and_data(project, monkeypatch, capsys):
    monkeypatch.chdir(project)
    text = (project / "recipe.yaml").read_text()
    for old, new, status in (
        ("candidates/*", "google/flan-t5-base", 13),
        ("data/eval.parquet", "stanfordnlp/imdb", 10),
    ):
        assert old in text
        (project / "recipe.yaml").write_text(text.replace(old, new))
        code, _, err = call(capsys, "plan", "recipe.yaml")
        assert (code, f"{new} --local-dir {project / new}" in err) == (status, True), err
    (project / "recipe.yaml").write_text(f"base: google/flan-t5-base\n{text}")
    code, _, err = call(capsys, "plan", "recipe.yaml")
    assert (code, f"{DOWNLOAD} google/flan-t5-base" in err) == (13, True)


def test_a_merge_document_says_so(tmp_path, monkeypatch, capsys):
    write_checkpoint(tmp_path / "b", random_tensors(1))
    (tmp_path / "m.yml").write_text(DOCUMENT.replace("model: a", "model: google/flan-t5-base"))
    monkeypatch.chdir(tmp_path)
    status, _, err = call(capsys, "merge", "m.yml", "out")
    assert (status, f"{DOWNLOAD} google/flan-t5-base" in err) == (13, True)
