"""Side files of any size: copied in pieces, with digests that can be checked."""

import hashlib
import tracemalloc

import pytest

from cluster.stores.open_store import open_store
from fusion.canonical import from_json
from fusion.manifests.model import ModelManifest
from jobs.candidates.pin import pin_checkpoint
from jobs.commands.merge import run_merge
from jobs.errors import SourceChangedError
from jobs.merge.large_files import LARGE_BYTES, copy_files, is_large, read_pieces
from jobs.models.side_folder import side_files
from jobs.outputs.verify import check_model, verify_model
from tests.support.merging import random_tensors, write_checkpoint

NAME = "chat_template.jinja"
SIZE = LARGE_BYTES + (37 << 20) + 5


@pytest.fixture
def folder(tmp_path):
    """Checkpoints a and b; a has a template of 101 MiB, most of it a hole."""
    for seed, name in enumerate("ab"):
        write_checkpoint(tmp_path / name, random_tensors(seed), {"model_type": "bert"})
    with (tmp_path / "a" / NAME).open("wb") as file:
        file.write(b"{{ begin }}")
        file.truncate(SIZE)
        file.seek(SIZE - 7)
        file.write(b"the end")
    return tmp_path


def digest_of(path):
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def test_a_merge_copies_it_and_its_manifest_can_be_checked(folder):
    block = folder / "r.yml"
    block.write_text("candidates: [a, b]\n")
    assert run_merge(block, str(folder / "out"), memory="1GiB", as_json=True) == 0
    assert digest_of(folder / "out" / NAME) == digest_of(folder / "a" / NAME)
    store = open_store(str(folder))
    manifest = from_json(ModelManifest, store.read("out/manifest.json"))
    (entry,) = [entry for entry in manifest.files if entry.name == NAME]
    assert (entry.size, len(entry.units)) == (SIZE, 7)
    assert verify_model(store, check_model(store, "out"), share=1.0, seed="").differences == ()
    assert run_merge(block, str(folder / "out"), memory="1GiB", as_json=True) == 0


def test_it_is_never_in_memory_whole(folder):
    checkpoint = pin_checkpoint(str(folder / "a"), name="a")[0]
    large = [file for file in checkpoint.side_files if is_large(file)]
    tracemalloc.start()
    copy_files(checkpoint, large, open_store(str(folder)), folder="copied")
    with side_files(checkpoint) as place:
        assert (place / NAME).stat().st_size == SIZE
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 40 << 20
    assert digest_of(folder / "copied" / NAME) == digest_of(folder / "a" / NAME)


def test_one_that_changes_meanwhile_is_a_changed_source_and_leaves_no_upload(folder):
    checkpoint = pin_checkpoint(str(folder / "a"), name="a")[0]
    (file,) = [file for file in checkpoint.side_files if is_large(file)]
    pieces = read_pieces(checkpoint, file)
    next(pieces)
    (folder / "a" / NAME).write_bytes(b"short")
    with pytest.raises(SourceChangedError):
        next(pieces)
    with pytest.raises(SourceChangedError):
        copy_files(checkpoint, [file], open_store(str(folder)), folder="copied")
    assert list(open_store(str(folder)).list_uploads("copied/")) == []
    assert not (folder / "copied" / NAME).exists()
