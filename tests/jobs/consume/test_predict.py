"""`metafuse predict`: an ensemble answers by the names of its labels, with all its models."""

import io
import json
import shutil

import pytest
from safetensors.torch import load_file, save_file

from fusion.errors import MismatchError
from jobs.candidates.pin import pin_checkpoint
from jobs.cli.main import main
from jobs.consume.predict import predict
from jobs.errors import UsageError
from tests.support.tiny_lstm import write_candidates
from tests.support.tiny_models import edit_config, write_classifier

TEXTS = ["what a lovely phone", "the food was awful"]


@pytest.fixture(scope="module")
def models(tmp_path_factory):
    """Candidates a to d; nothing is changed in them."""
    folder = tmp_path_factory.mktemp("models")
    write_candidates(folder)
    return folder


def pin(folder):
    return pin_checkpoint(str(folder), name=folder.name)[0]


def ask(*folders):
    return predict([pin(f) for f in folders], [1 / len(folders)] * len(folders), TEXTS)


def call(capsys, *arguments):
    with pytest.raises(SystemExit) as left:
        main(["predict", *map(str, arguments)])
    captured = capsys.readouterr()
    return left.value.code, captured.out, captured.err


def test_models_whose_labels_stand_in_another_order_are_pooled_by_name(models, tmp_path):
    other = shutil.copytree(models / "a", tmp_path / "other")
    tensors = load_file(other / "model.safetensors")
    for name in ("dense.weight", "dense.bias"):
        tensors[name] = tensors[name].flip(0).contiguous()
    save_file(tensors, other / "model.safetensors", metadata={"format": "pt"})
    edit_config(other, id2label={"0": "positive", "1": "negative"})
    alone, both = ask(models / "a"), ask(models / "a", other)
    for one, two in zip(alone, both, strict=True):
        assert one.answer == two.answer
        assert one.probabilities == pytest.approx(two.probabilities)
        assert list(one.probabilities) == list(two.probabilities)


def test_models_with_other_labels_have_no_common_answer(models, tmp_path):
    other = shutil.copytree(models / "a", tmp_path / "other")
    edit_config(other, id2label={"0": "negative", "1": "neutral"})
    with pytest.raises(MismatchError, match=r"other has the labels .*neutral") as caught:
        ask(models / "a", other)
    assert caught.value.code == "E-CONFIG"


def test_labels_without_names_cannot_be_aligned(models, tmp_path):
    folders = [shutil.copytree(models / name, tmp_path / name) for name in "ab"]
    for folder in folders:
        edit_config(folder, id2label={"0": "LABEL_0", "1": "LABEL_1"})
    assert {answer.answer for answer in ask(folders[0])} <= {"LABEL_0", "LABEL_1"}
    with pytest.raises(MismatchError, match="LABEL_0"):
        ask(*folders)


def test_only_one_model_can_write_text(models, tmp_path):
    writer = write_classifier(tmp_path / "g", "gpt2", head=False)
    with pytest.raises(UsageError, match="g writes text"):
        ask(models / "a", writer)
    with pytest.raises(UsageError, match="g writes text"):
        ask(writer, models / "a")


@pytest.mark.parametrize("words", [20, 30, 63, 200])
def test_a_prompt_of_any_length_is_gone_on_from_its_end(tmp_path, words):
    writer = write_classifier(tmp_path / "g", "gpt2", head=False)  # it reads 64 tokens
    end = "the film was great"
    said = {}
    for start in ("an awful dull book " * words, "it broke after a day " * words):
        (answer,) = predict([pin(writer)], [1.0], [start + end * 8])
        said[start] = answer.answer
    assert len(set(said.values())) == 1 or words < 30
    assert all(said.values())


def test_a_broken_model_is_never_left_out_of_an_ensemble(capsys, models, tmp_path):
    broken = shutil.copytree(models / "b", tmp_path / "broken")
    path = broken / "model.safetensors"
    path.write_bytes(path.read_bytes()[:-10])
    status, out, err = call(capsys, models / "a", broken, "--text", "fine")
    assert (status, out) == (13, "")
    assert "1 of 2 models cannot be asked" in err
    assert "broken: E-TRUNCATED" in err


def test_the_weights_of_an_ensemble_are_equal(capsys, models):
    answers = {}
    for name, asked in (("a", "a"), ("b", "b"), ("both", "ab")):
        status, out, _ = call(capsys, *(models / n for n in asked), "--text", "fine", "--json")
        assert status == 0
        answers[name] = json.loads(out)["probabilities"]["positive"]
    assert answers["both"] == pytest.approx((answers["a"] + answers["b"]) / 2)


def test_lines_of_stdin_are_asked(capsys, models, monkeypatch):
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(b"great food\nawful film\n")))
    status, out, _ = call(capsys, models / "a")
    assert (status, len(out.splitlines())) == (0, 2)
