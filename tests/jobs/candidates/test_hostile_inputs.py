"""Hostile checkpoints: refused, nothing executed, nothing outside of them opened."""

import json
import os
import re
import socket
import subprocess
import sys
import textwrap
import uuid
from pathlib import Path

import pytest
import torch

from cluster.errors import AccessError
from fusion.errors import IntegerError
from jobs.candidates.shards import INDEX
from jobs.errors import NoCandidatesError, PickleError, UnsafeNameError
from tests.support.calling import call
from tests.support.checkpoints import (
    BERT,
    PICKLE,
    SECOND,
    archive,
    find,
    names,
    pin,
    raw_shard,
    shard_bytes,
    sharded_checkpoint,
    whole_checkpoint,
    write_files,
)
from tests.support.merging import load_merged, merge

ROOT = Path(__file__).parent.parent.parent.parent
SHARD = "model.safetensors"


@pytest.fixture
def checkpoint(tmp_path):
    """A folder with a whole checkpoint, and a secret beside it."""
    (tmp_path / "secret").write_bytes(shard_bytes())
    write_files(tmp_path / "in/s", whole_checkpoint())
    return tmp_path / "in/s"


def no_usable(folder):
    """The reason why a checkpoint is not used."""
    found = find(folder)
    assert found.candidates == ()
    (skipped,) = found.skipped
    return f"{skipped.code} {skipped.reason}"


@pytest.mark.parametrize("target", ["../../secret", "/etc/passwd", "/dev/zero", "../s2/x"])
@pytest.mark.parametrize("file", [SHARD, "config.json", "vocab.txt"])
def test_a_link_out_of_the_checkpoint_is_not_followed(checkpoint, target, file):
    (checkpoint / "../s2").mkdir()
    (checkpoint / "../s2/x").write_bytes(b"{}")
    (checkpoint / file).unlink()
    (checkpoint / file).symlink_to(target)
    with pytest.raises(UnsafeNameError, match=r"leaves .* it was not opened"):
        find(checkpoint)


def test_links_in_a_circle_and_into_nowhere_are_no_files(checkpoint):
    shard = checkpoint / SHARD
    for target in (SHARD, "b.safetensors", "nowhere"):
        shard.unlink()
        shard.symlink_to(target)
        (checkpoint / "b.safetensors").unlink(missing_ok=True)
        if target == "b.safetensors":
            (checkpoint / "b.safetensors").symlink_to(SHARD)
        assert no_usable(checkpoint).startswith("E-INCOMPLETE")


def test_a_linked_folder_is_not_entered(checkpoint, tmp_path):
    write_files(tmp_path / "elsewhere/x", whole_checkpoint())
    (checkpoint.parent / "t").symlink_to(tmp_path / "elsewhere")
    (checkpoint / "up").symlink_to("..")
    assert names(find(checkpoint.parent)) == ["s"]
    with pytest.raises(NoCandidatesError):
        find(checkpoint.parent / "t*")


def test_another_owners_file_under_a_second_name_is_not_opened(checkpoint, tmp_path):
    os.link(checkpoint / "vocab.txt", tmp_path / "kept")
    assert names(find(checkpoint)) == ["s"]
    if os.geteuid() == 0:  # only root can give files away
        os.chown(tmp_path / "secret", 65534, 65534)
        (checkpoint / SHARD).unlink()
        os.link(tmp_path / "secret", checkpoint / SHARD)
        with pytest.raises(AccessError, match="another owner's file"):
            find(checkpoint)


def make_socket(path):
    with socket.socket(socket.AF_UNIX) as server:
        before = Path.cwd()
        os.chdir(path.parent)  # their paths are short
        server.bind(path.name)
        os.chdir(before)


def make_device(path):
    os.mknod(path, 0o600 | 0o020000, os.makedev(1, 5))


ODD_FILES = {
    "pipe": os.mkfifo, "folder": Path.mkdir, "socket": make_socket,
    **({"device": make_device} if os.geteuid() == 0 else {}),
}  # fmt: skip


@pytest.mark.parametrize("kind", ODD_FILES)
@pytest.mark.parametrize("file", [SHARD, "config.json"])
def test_what_is_no_regular_file_is_never_read(checkpoint, kind, file):
    (checkpoint / file).unlink()
    ODD_FILES[kind](checkpoint / file)
    if file == SHARD:
        assert no_usable(checkpoint).startswith("E-INCOMPLETE")
    else:
        assert pin(checkpoint).config == {}


def test_shards_that_are_one_file_on_some_disks_are_refused(tmp_path):
    files = sharded_checkpoint()
    files["Model-00002-of-00002.safetensors"] = files[SECOND]
    index = json.loads(files[INDEX])
    index["weight_map"]["more"] = "Model-00002-of-00002.safetensors"
    files[INDEX] = json.dumps(index).encode()
    write_files(f"memory://{uuid.uuid4().hex}/s", files)
    place = write_files(f"memory://{uuid.uuid4().hex}/s", files)
    with pytest.raises(UnsafeNameError, match="one file where case does not count"):
        find(place)


def test_an_empty_base_does_not_open_the_parent(checkpoint, monkeypatch):
    index = {"weight_map": {"w": "../secret.safetensors"}}
    (checkpoint / INDEX).write_text(json.dumps(index))
    monkeypatch.chdir(checkpoint)
    for base in (".", "./", "file://" + str(checkpoint)):
        with pytest.raises(UnsafeNameError, match="nothing was opened"):
            find(base)


def test_an_index_that_names_a_tensor_twice_is_not_read(tmp_path):
    files = sharded_checkpoint()
    text = files[INDEX].decode()
    first = text[text.index('"embeddings.weight"') : text.index(', "classifier')]
    files[INDEX] = text.replace(first, f"{first}, {first}").encode()
    assert "given twice" in no_usable(write_files(tmp_path / "s", files))


def test_a_bomb_of_json_costs_nothing(tmp_path):
    for name, content in {
        INDEX: b'{"weight_map":' * 50_000,
        "config.json": b"[" * 100_000 + b"]" * 100_000,
        "tokenizer.json": b'{"a":' * 100_000,
    }.items():
        place = write_files(tmp_path / name / "s", {**whole_checkpoint(), name: content})
        assert no_usable(place).startswith("E-INCOMPLETE")


@pytest.mark.parametrize("kind", ["zip", "tar", "pickle"])
@pytest.mark.parametrize("file", [SHARD, "pytorch_model.bin", "config.safetensors"])
def test_archives_are_refused_by_their_content_and_never_unpacked(tmp_path, kind, file):
    place = write_files(tmp_path / "s", {file: archive(kind) + bytes(600)})
    before = sorted(tmp_path.rglob("*"))
    with pytest.raises(PickleError, match="can run code"):
        find(place)
    assert sorted(tmp_path.rglob("*")) == before


ODD_NAMES = (
    "../../etc/passwd",
    "<script>alert(1)</script>",
    "a'\"|`$(id)",
    "/abs",
    "..",
    "é\u202ex",
)


def test_odd_tensor_names_are_data_and_never_paths(tmp_path):
    table = dict.fromkeys(ODD_NAMES, ("F32", (2,)))
    for number in range(2):
        place = tmp_path / f"in/m{number}"
        write_files(place, {SHARD: shard_bytes(table), "config.json": json.dumps(BERT).encode()})
    sources = [pin(tmp_path / f"in/m{number}") for number in range(2)]
    plan, _ = merge(sources, [0.5, 0.5], tmp_path / "out")
    assert set(load_merged(tmp_path / "out", plan)) == set(ODD_NAMES)
    assert {path.name for path in tmp_path.iterdir()} == {"in", "out"}
    assert [path.name for path in (tmp_path / "out/model").iterdir()] == [SHARD]


def test_a_tensor_at_an_odd_offset_is_read_right(tmp_path):
    header = {
        "b": {"dtype": "U8", "shape": [1], "data_offsets": [0, 1]},
        "w": {"dtype": "F32", "shape": [2], "data_offsets": [1, 9]},
    }
    content = b"\x07" + torch.tensor([1.5, -2.0]).numpy().tobytes()
    for number in range(2):
        write_files(tmp_path / f"m{number}", {SHARD: raw_shard(header, content)})
    sources = [pin(tmp_path / f"m{number}") for number in range(2)]
    plan, _ = merge(sources, [0.5, 0.5], tmp_path / "out")
    assert load_merged(tmp_path / "out", plan)["w"].tolist() == [1.5, -2.0]


def test_a_truth_value_that_is_neither_0_nor_1_is_refused(tmp_path):
    header = {
        "m": {"dtype": "BOOL", "shape": [4], "data_offsets": [0, 4]},
        "w": {"dtype": "F32", "shape": [1], "data_offsets": [4, 8]},
    }
    for number in range(2):
        write_files(tmp_path / f"m{number}", {SHARD: raw_shard(header, b"\0\1\2\1" + bytes(4))})
    sources = [pin(tmp_path / f"m{number}") for number in range(2)]
    with pytest.raises(IntegerError, match="bytes other than 0 and 1"):
        merge(sources, [0.5, 0.5], tmp_path / "out")


BOMBS = {
    "aliases": "a: &a [x,x]\nb: &b [*a,*a]\nc: &c [*b,*b]\ncandidates: *c\n",
    "depth": "candidates: " + "[" * 5000 + "]" * 5000,
    "a tag": "candidates: !!python/object/apply:os.system ['touch pwned']\n",
    "a key twice": "candidates: [a]\ncandidates: [b]\n",
}


@pytest.mark.parametrize("bomb", BOMBS)
@pytest.mark.parametrize("verb", ["plan", "merge"])
def test_a_bomb_of_yaml_is_a_mistake_in_the_recipe(tmp_path, monkeypatch, capsys, bomb, verb):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "r.yaml").write_text(BOMBS[bomb])
    status, out, _ = call(capsys, verb, "r.yaml", *(["out"] if verb == "merge" else []), "--json")
    assert (status, json.loads(out)["error"]) == (10, "E-RECIPE")
    assert [path.name for path in tmp_path.iterdir()] == ["r.yaml"]


def test_discovery_opens_nothing_outside_of_the_checkpoint(tmp_path):
    """Every open of a fresh process, as the interpreter itself reports it, and by strace."""
    hostile = tmp_path / "in/bad"
    index = {"weight_map": {"w": "../../secret.safetensors", "v": "/etc/passwd"}}
    files = {**whole_checkpoint(), INDEX: json.dumps(index).encode()}
    write_files(
        hostile, {**files, "pytorch_model.bin": PICKLE, "modeling.py": b"open('/etc/group')"}
    )
    (tmp_path / "secret.safetensors").write_bytes(shard_bytes())
    (tmp_path / "in/linked").mkdir()
    (tmp_path / "in/linked" / SHARD).symlink_to(tmp_path / "secret.safetensors")
    opened = opens_of_discovery(tmp_path)
    outside = [path for path in opened if is_outside(path, tmp_path / "in")]
    assert outside == []
    assert any(path.startswith(str(hostile)) for path in opened)


PROGRAM = """
    import sys
    sys.path.insert(0, {root!r})
    import jobs.candidates.find, cluster.stores.local.store, concurrent.futures.thread
    from cluster.errors import ClusterError
    from jobs.errors import JobError
    opened = []
    sys.addaudithook(lambda event, given: event == "open" and opened.append(str(given[0])))
    print("begin", flush=True)
    for name in ("bad", "linked"):
        for how in ("stop", "drop"):
            try:
                jobs.candidates.find.find_candidates(
                    [{place!r} + name], settle_seconds=0, now=4e9, on_refused=how
                )
            except (JobError, ClusterError):
                pass
    print("end", flush=True)
    print(*opened, sep="\\n")
"""


def opens_of_discovery(folder):
    program = textwrap.dedent(PROGRAM).format(root=str(ROOT), place=str(folder / "in") + "/")
    script = folder / "program.py"
    script.write_text(program)
    trace = folder / "trace"
    command = [sys.executable, "-B", str(script)]
    strace = ["strace", "-f", "-o", str(trace), "-e", "trace=open,openat,write"]
    try:
        done = subprocess.run([*strace, *command], capture_output=True, text=True, check=False)
    except FileNotFoundError:
        done = None
    if done is None or done.returncode != 0:  # not there, or not permitted
        trace.unlink(missing_ok=True)
        done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    lines = done.stdout.split("end\n")[1].splitlines()
    if trace.exists():
        lines += traced_paths(trace.read_text())
    return [line for line in lines if line]


def traced_paths(text):
    """Paths opened between the two marks that the program writes."""
    middle = text.split('"begin')[1].split('"end')[0]
    return re.findall(r'open(?:at)?\((?:[A-Z_0-9]+, )?"([^"]*)"', middle)


def is_outside(path, root):
    """Whether an open is neither below `root` nor one of Python's own files."""
    own = (sys.prefix, sys.base_prefix, str(ROOT), "/usr/lib", "/lib", "/proc/self", "/sys/devices")
    return path.startswith("/") and not path.startswith((str(root), *own))
