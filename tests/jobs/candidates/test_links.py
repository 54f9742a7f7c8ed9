"""Links are followed inside the place that the user named; one that leaves it refuses its own."""

import pytest

from jobs.candidates.pin import open_pinned
from jobs.errors import SourceChangedError, UnsafeNameError
from jobs.models.tensor_reads import read_tensors
from jobs.models.unfilled import CPU
from tests.support.checkpoints import find, names, whole_checkpoint, write_files
from tests.support.merging import load_merged, merge, random_tensors, write_checkpoint

SHARD = "model.safetensors"


def snapshot(hub, number, tensors):
    """A model as the hub's cache keeps it: files are links to blobs two folders up."""
    repository = hub / "models--some--model"
    written = write_checkpoint(hub / f"made-{number}", tensors, {"model_type": "bert"})
    folder = repository / "snapshots" / f"rev{number}"
    folder.mkdir(parents=True)
    (repository / "blobs").mkdir(exist_ok=True)
    for file in sorted(written.iterdir()):
        blob = repository / "blobs" / f"{number}{file.name}".encode().hex()
        file.rename(blob)
        (folder / file.name).symlink_to(f"../../blobs/{blob.name}")
    written.rmdir()
    return folder


@pytest.fixture
def runs(tmp_path):
    write_files(tmp_path / "runs/step-1", whole_checkpoint())
    write_files(tmp_path / "elsewhere", whole_checkpoint())
    return tmp_path / "runs"


def test_snapshots_of_the_hubs_cache_are_merged(tmp_path):
    tensors = [random_tensors(seed) for seed in range(2)]
    folders = [snapshot(tmp_path / "hub", n, one) for n, one in enumerate(tensors)]
    found = find(folders[0], tmp_path / "hub/models--some--model/snapshots/rev1")
    assert names(found) == ["rev0", "rev1"]
    plan, _ = merge(list(found.candidates), [1, 1], tmp_path / "out")
    merged = load_merged(tmp_path / "out", plan)
    assert all((merged[n] == (tensors[0][n] + tensors[1][n]) / 2).all() for n in merged)
    assert read_tensors(found.candidates[0], CPU).tensors.keys() == merged.keys()
    first = found.candidates[0]
    again = open_pinned(first.uri, first.shards, first.side_files, name=first.name)
    assert again.tensors == first.tensors
    assert names(find(tmp_path / "hub/models--*/snapshots/*")) == ["rev0", "rev1"]


def test_a_linked_file_inside_the_named_place_is_followed(runs):
    write_files(runs / "step-2", whole_checkpoint())
    (runs / "step-2" / SHARD).rename(runs / "shared.bin")
    (runs / "step-2" / SHARD).symlink_to("../shared.bin")
    assert names(find(runs / "step-*")) == ["step-1", "step-2"]
    with pytest.raises(UnsafeNameError, match=r"step-2/model\.safetensors is a link that leaves"):
        find(runs / "step-2")


def test_a_pinned_link_that_leads_elsewhere_later_is_a_changed_source(runs):
    tensors = random_tensors(0)
    write_checkpoint(runs / "kept", tensors)
    write_checkpoint(runs / "other", tensors)
    link = runs / "s" / SHARD
    link.parent.mkdir()
    link.symlink_to(runs / "kept" / SHARD)
    (candidate,) = find(runs / "[s]").candidates
    link.unlink()
    link.symlink_to(runs / "other" / SHARD)
    with pytest.raises(SourceChangedError, match="when it was pinned"):
        read_tensors(candidate, CPU)


def test_a_linked_folder_is_a_candidate_under_a_glob(runs):
    (runs / "deep").mkdir()
    write_files(runs / "deep/er/step-7", whole_checkpoint())
    (runs / "best").symlink_to("deep/er/step-7")
    (runs / "circle").symlink_to(".")
    assert names(find(runs / "b*")) == ["best"]
    assert names(find(runs)) == ["best", "step-1"]


def test_a_link_out_of_the_place_refuses_that_candidate_alone(runs):
    (runs / "far").symlink_to(runs.parent / "elsewhere")
    with pytest.raises(UnsafeNameError, match="far is a link that leaves"):
        find(runs / "*")
    found = find(runs / "*", on_refused="drop")
    assert names(found) == ["step-1"]
    assert [entry.code for entry in found.skipped] == ["E-UNSAFE-NAME"]


def test_a_pattern_that_only_lists_beside_a_link_is_not_disturbed(runs):
    (runs / "far").symlink_to(runs.parent / "elsewhere")
    (runs / "notes.json").symlink_to("/etc/passwd")
    write_files(runs / "broken", whole_checkpoint())
    (runs / "broken" / SHARD).unlink()
    (runs / "broken" / SHARD).symlink_to(runs.parent / "elsewhere" / SHARD)
    assert names(find(runs / "step-*")) == ["step-1"]


def test_a_link_out_that_is_not_read_is_left_alone(runs):
    (runs / "step-1/training.log").symlink_to("/etc/passwd")
    assert names(find(runs / "step-1")) == ["step-1"]
