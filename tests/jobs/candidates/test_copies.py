"""The same bytes under two names are one candidate; weights given by name stay as meant."""

import shutil

import pytest
import torch
from safetensors.torch import load_file

from jobs.candidates.copies import drop_copies, find_copies
from jobs.commands.merge import run_merge
from tests.support.adapters import random_factors, write_adapter, write_base
from tests.support.checkpoints import find
from tests.support.merging import random_tensors, write_checkpoint

SHARD = "model.safetensors"


@pytest.fixture
def runs(tmp_path):
    for seed, name in enumerate(("a", "b")):
        write_checkpoint(tmp_path / "runs" / name, random_tensors(seed))
    return tmp_path / "runs"


def copies(runs):
    return find_copies(find(runs / "*").candidates)


@pytest.mark.parametrize("how", ["copied", "linked", "hard-linked"])
def test_a_copy_counts_once_however_it_was_made(runs, how):
    (runs / "c").mkdir()
    if how == "copied":
        shutil.copy(runs / "a" / SHARD, runs / "c" / SHARD)
    elif how == "linked":
        (runs / "c" / SHARD).symlink_to("../a/" + SHARD)
    else:
        (runs / "c" / SHARD).hardlink_to(runs / "a" / SHARD)
    found = drop_copies(find(runs / "*"))
    assert [candidate.name for candidate in found.candidates] == ["a", "b"]
    (entry,) = found.skipped
    assert (entry.name, entry.code, entry.reason) == (
        "c", "the same bytes:", "as a, so it counts once"
    )  # fmt: skip


@pytest.mark.parametrize("place", [0, -1])
def test_one_bit_is_a_difference_wherever_it_is(runs, place):
    tensors = random_tensors(0)
    tensor = list(tensors.values())[-1].view(-1)
    tensor[place] = tensor[place] * 2 + 1
    write_checkpoint(runs / "c", tensors)
    assert copies(runs) == {}


def test_adapters_of_one_content_are_copies_only_with_one_scale(tmp_path):
    base = write_base(tmp_path / "base", {"x.weight": (6, 5)})
    factors = random_factors(0, {"x": (6, 5)})
    for name, alpha in (("a", 8), ("b", 8), ("c", 16)):
        write_adapter(tmp_path / "runs" / name, factors, lora_alpha=alpha)
    from jobs.candidates.find import find_candidates

    found = find_candidates([f"{tmp_path}/runs"], settle_seconds=0, now=0, base=str(base))
    assert find_copies(found.candidates) == {"b": "a"}


def write_block(folder, *names, more=""):
    block = folder / "r.yml"
    block.write_text(f"candidates: [{', '.join(names)}]\n{more}")
    return block


def test_a_merge_of_copies_has_the_bits_of_one_and_says_so(runs, tmp_path, capsys):
    for name in "cd":
        shutil.copytree(runs / "a", runs / name)
    block = write_block(tmp_path, *(f"runs/{name}" for name in "acd"))
    assert run_merge(block, str(tmp_path / "out"), memory="1GiB", as_json=False) == 0
    assert "c has the same bytes as a: it counts once" in capsys.readouterr().err
    made, source = load_file(tmp_path / "out" / SHARD), load_file(runs / "a" / SHARD)
    assert all(torch.equal(made[name], source[name]) for name in source)


def test_weights_that_were_given_by_name_stay(runs, tmp_path, capsys):
    shutil.copytree(runs / "a", runs / "c")
    more = "weights: {rule: fixed, values: {a: 0.25, b: 0.5, c: 0.25}}\n"
    block = write_block(tmp_path, "runs/a", "runs/b", "runs/c", more=more)
    assert run_merge(block, str(tmp_path / "out"), memory="1GiB", as_json=False) == 0
    assert "both keep the weights" in capsys.readouterr().err


def test_a_glob_over_the_output_does_not_take_what_was_merged_before(runs, tmp_path, capsys):
    block = write_block(tmp_path, "runs/*")
    assert run_merge(block, str(runs / "out"), memory="1GiB", as_json=False) == 0
    before = (runs / "out" / SHARD).read_bytes()
    assert run_merge(block, str(runs / "out"), memory="1GiB", as_json=False) == 0
    said = capsys.readouterr()
    assert "1 models in the output itself" in said.err
    assert "this merge is there already" in said.out
    assert (runs / "out" / SHARD).read_bytes() == before
