"""Those who use a promoted model: they get it whole, or are told why not."""

import shutil

import pytest

from fusion.errors import ManifestError
from jobs.consume.pull import STAGING, pull
from jobs.errors import OutputError
from tests.support.calling import call
from tests.support.running import run_project
from tests.support.tiny_lstm import write_project


@pytest.fixture(scope="module")
def promoted(tmp_path_factory):
    """An output with a promoted model, and one where a run was held."""
    folder = tmp_path_factory.mktemp("promoted")
    write_project(folder)
    for candidate in (folder / "candidates").iterdir():
        (candidate / "chat_templates").mkdir()
        (candidate / "chat_templates" / "tool.jinja").write_text("{{ text }}")
        (candidate / "training_args.bin").write_bytes(b"x")
    assert run_project(folder).outcome.result == "promoted"
    return folder


@pytest.fixture
def output(promoted, tmp_path):
    return shutil.copytree(promoted / "merged", tmp_path / "merged")


def shard(output):
    (found,) = output.glob("runs/*/model-*/model.safetensors")
    return found


def damage(path):
    """Another byte near the end; the size stays."""
    content = bytearray(path.read_bytes())
    content[-9] ^= 0x10
    path.write_bytes(content)


def bring(output, folder):
    return pull(str(output), folder)


def test_resolve_looks_at_the_bytes_where_it_is_asked_to(capsys, output):
    assert call(capsys, "resolve", output, "--verify")[0] == 0
    damage(shard(output))
    assert call(capsys, "resolve", output)[0] == 0
    status, out, err = call(capsys, "resolve", output, "--verify")
    assert (status, out) == (11, "")
    assert "model.safetensors, bytes 0 to" in err
    assert "metafuse rollback" in err


@pytest.mark.parametrize("place", ["output", "model"])
def test_a_damaged_model_does_not_answer(capsys, output, place):
    asked = output if place == "output" else shard(output).parent
    assert call(capsys, "predict", asked, "--text", "good phone")[0] == 0
    damage(shard(output))
    status, out, err = call(capsys, "predict", asked, "--text", "good phone")
    assert (status, out) == (11, "")
    assert "The model is damaged and was not used" in err


def test_a_model_is_pulled_with_its_files_in_folders(output, tmp_path):
    found = bring(output, tmp_path / "model")
    assert (tmp_path / "model" / "chat_templates" / "tool.jinja").read_text() == "{{ text }}"
    assert found.manifest.notes == ("training_args.bin: state of the training",)
    assert bring(output, tmp_path / "model") == found


def test_a_failed_pull_leaves_no_model_behind_and_the_next_brings_it(output, tmp_path):
    whole = shard(output).read_bytes()
    damage(shard(output))
    with pytest.raises(ManifestError, match="nothing that was in the folder was changed"):
        bring(output, tmp_path / "here")
    assert [path.name for path in (tmp_path / "here").iterdir()] == [STAGING]
    shard(output).write_bytes(whole)
    bring(output, tmp_path / "here")
    names = {path.name for path in (tmp_path / "here").iterdir()}
    assert names >= {"manifest.json", "model.safetensors", "config.json"}
    assert STAGING not in names


def test_a_failed_pull_leaves_an_earlier_one_as_it_was(output, tmp_path):
    bring(output, tmp_path / "here")
    (tmp_path / "here" / "model.safetensors").write_bytes(b"old")
    before = {p.name: p.read_bytes() for p in (tmp_path / "here").iterdir() if p.is_file()}
    damage(shard(output))
    with pytest.raises(ManifestError):
        bring(output, tmp_path / "here")
    after = {p.name: p.read_bytes() for p in (tmp_path / "here").iterdir() if p.is_file()}
    assert after == before


def test_pull_does_not_write_into_a_folder_of_somebody_else(capsys, output, tmp_path):
    folder = tmp_path / "mine"
    folder.mkdir()
    (folder / "README.md").write_text("my notes")
    status, _, err = call(capsys, "pull", output, folder)
    assert (status, "E-OUTPUT" in err, "README.md is there" in err) == (21, True, True)
    assert [path.name for path in folder.iterdir()] == ["README.md"]
    assert (folder / "README.md").read_text() == "my notes"
    with pytest.raises(OutputError):
        bring(output, folder)


def test_an_output_without_a_promoted_model_is_called_that(capsys, output):
    (output / "latest.json").unlink()
    status, _, err = call(capsys, "predict", output, "--text", "good")
    assert (status, "nothing was promoted to" in err) == (13, True)
    assert f"metafuse promote {output} " in err
    assert "the last run, nightly-2026-11-24, ended as promoted" in err


def test_blank_lines_stay_lines_and_are_not_asked(capsys, monkeypatch, output):
    import io

    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(b"good phone\n\n   \nbad food\n")))
    status, out, _ = call(capsys, "predict", output)
    texts = [line.partition("\t")[2] for line in out.splitlines()]
    assert (status, texts) == (0, ["good phone", "", "", "bad food"])
