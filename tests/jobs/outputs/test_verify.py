import json
import uuid

import pytest

from cluster.stores.memory import MemoryStore
from cluster.stores.open_store import open_store
from fusion.canonical import from_json
from fusion.manifests.model import ModelManifest
from jobs.outputs.pointer import read_pointer
from jobs.outputs.verify import check_model, verify_model
from tests.jobs.commands.test_operate import call
from tests.support.light_runs import drive


@pytest.fixture
def store():
    return MemoryStore(f"memory://{uuid.uuid4().hex}")


def promoted(store):
    drive(store, "2026-11-21")
    folder = read_pointer(store).pointer.model
    return folder, check_model(store, folder)


def test_a_whole_model_is_good_and_says_how_much_was_read(store):
    _, model = promoted(store)
    found = verify_model(store, model, share=1.0, seed="s")
    assert found.differences == ()
    assert (found.num_read, found.num_units) == (4, 4)
    assert found.read_bytes == found.num_bytes == sum(e.size for e in model.manifest.files)


def test_one_flipped_bit_is_found_and_its_unit_is_named(store):
    folder, model = promoted(store)
    key = f"{folder}/model.safetensors"
    content = bytearray(store.read(key))
    content[9] ^= 1
    store.put(key, bytes(content))
    (text,) = verify_model(store, model, share=1.0, seed="s").differences
    assert f"{key}, bytes 8 to 13: sha256" in text


def test_a_sample_picks_whole_units_by_its_seed_and_at_least_one(store):
    _, model = promoted(store)

    def read(seed, share=0.0):
        return verify_model(store, model, share=share, seed=seed)

    assert read("a").num_read == 3  # two small files, one unit
    assert read("a", 0.5) == read("a", 0.5)
    sizes = {read(str(number)).read_bytes - 20 for number in range(20)}
    assert sizes == {8, 5}  # the first unit or the second, beside small files of 20 bytes


def test_a_manifest_whose_digests_do_not_add_up_is_not_believed(store):
    folder, _ = promoted(store)
    key = f"{folder}/manifest.json"
    table = json.loads(store.read(key))
    for entry in table["files"]:
        if entry["units"]:
            entry["units"] = entry["units"][:1]
    store.put(key, json.dumps(table).encode())
    model = check_model(store, folder)
    found = verify_model(store, model, share=1.0, seed="")
    assert any("do not add up" in text for text in found.differences)


def test_a_file_with_a_crc_alone_is_read_whole(store):
    folder, _ = promoted(store)
    manifest = from_json(ModelManifest, store.read(f"{folder}/manifest.json"))
    table = json.loads(store.read(f"{folder}/manifest.json"))
    for entry in table["files"]:
        if entry["units"]:
            entry["units"], entry["sha256"] = [], ""
    store.put(f"{folder}/manifest.json", json.dumps(table).encode())
    model = check_model(store, folder)
    found = verify_model(store, model, share=0.0, seed="")
    assert (found.differences, found.num_read) == ((), len(manifest.files))
    store.put(f"{folder}/model.safetensors", b"?" * 13)
    (text,) = verify_model(store, model, share=0.0, seed="").differences
    assert "crc64nvme" in text


def test_the_command_ends_with_0_or_with_11_and_what_differs(tmp_path, capsys):
    store = open_store(str(tmp_path))
    folder, _ = promoted(store)
    status, said = call(capsys, "verify", tmp_path, "--all")
    assert (status, said["is_good"], said["num_read"]) == (0, True, 4)
    assert call(capsys, "verify", tmp_path / folder, "--sample", "50%")[0] == 0
    assert call(capsys, "verify", tmp_path, "--run", "nightly-2026-11-21")[0] == 0
    (tmp_path / folder / "README.md").write_bytes(b"x" * len("nightly-2026-11-21"))
    status, said = call(capsys, "verify", tmp_path)
    assert (status, said["error"]) == (11, "E-MANIFEST")
    assert "README.md, bytes 0 to 18: sha256" in said["message"]
    (tmp_path / folder / "README.md").unlink()
    status, said = call(capsys, "verify", tmp_path)
    assert (status, said["error"]) == (11, "E-MANIFEST")
    assert "18 bytes expected, it is missing" in said["message"]


def test_what_is_neither_an_output_nor_a_model_is_said_so(tmp_path, capsys):
    status, said = call(capsys, "verify", tmp_path)
    assert (status, said["error"]) == (13, "E-NO-CANDIDATES")
