"""The demonstration's files, from networks too small to learn much (test_demo.py has the real)."""

import time
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from pyarrow import parquet
from safetensors.torch import load_file, save_file

from fusion.checkpoints.agreement import find_mismatches
from fusion.checkpoints.checkpoint import group_candidates
from fusion.scores.canonical_text import canonical_text
from jobs.candidates.find import find_candidates
from jobs.demo import training as demo_training
from jobs.demo.demo import PUBLISHED, prepare_demo
from jobs.demo.training import BAD, BRANCHES, LABELS, ROTTEN, flip_bit, train_candidates
from jobs.models.families import load_model
from jobs.recipes.recipe import load_recipe

SHIPPED = Path(demo_training.__file__).parent / "demo_data"
GOOD = [branch.name for branch in BRANCHES]
NAMES = sorted([*GOOD, BAD.name, ROTTEN])


@pytest.fixture(scope="module")
def small():
    """The real training, with a smaller network and two batches an epoch."""
    with pytest.MonkeyPatch.context() as change:
        for name, value in {"EMBEDDING": 4, "HIDDEN": 4, "BATCH": 982, "POOL": 1964}.items():
            change.setattr(demo_training, name, value)
        yield


@pytest.fixture(scope="module")
def demo(small, tmp_path_factory):
    """(folder of a prepared demonstration, what its progress said)."""
    folder = tmp_path_factory.mktemp("demo")
    told = []
    recipe = prepare_demo(folder, seed=0, tell=lambda *entry: told.append(entry))
    assert recipe == folder / "recipe.yaml"
    return folder, told


def find(folder):
    return find_candidates(
        [f"{folder}/candidates/*"], settle_seconds=0, now=time.time(), on_refused="stop"
    )


def tensors_of(folder, name):
    return load_file(folder / "candidates" / name / "model.safetensors")


def bytes_of(folder):
    return {path.parent.name: path.read_bytes() for path in folder.rglob("model.safetensors")}


def test_six_candidates_are_found_and_fit_together(demo):
    found = find(demo[0])
    assert sorted(candidate.name for candidate in found.candidates) == NAMES
    assert found.skipped == ()
    assert len(group_candidates(found.candidates)) == 1
    assert not find_mismatches(found.candidates, cast=False, vocabularies=found.vocabularies)


def test_every_candidate_can_be_loaded_and_names_its_classes(demo):
    for candidate in find(demo[0]).candidates:
        assert load_model(candidate).model.labels == LABELS == ("negative", "positive")


def test_the_recipe_asks_for_these_candidates_and_this_data(demo):
    folder, _ = demo
    recipe = load_recipe(folder / "recipe.yaml")
    assert recipe.name == "demo"
    assert recipe.weights.rule == "softmax"
    assert recipe.weights.temperature == 1.0
    assert recipe.merge.method == "linear"
    assert sorted(path.name for path in (folder / "candidates").iterdir()) == NAMES
    assert sorted(path.name for path in (folder / "data").iterdir()) == [
        "LICENCE.md",
        "evaluation.parquet",
    ]


def test_progress_counts_every_epoch_once(demo):
    _, told = demo
    total = 1 + sum(branch.epochs for branch in (*BRANCHES, BAD))
    assert [entry[:2] for entry in told] == [(done, total) for done in range(1, total + 1)]
    assert told[0][2].unit == "warm-up"
    assert [f.unit for _, _, f in told].count(GOOD[0]) == BRANCHES[0].epochs


def test_every_candidate_branches_from_the_same_start_and_ends_elsewhere(demo):
    folder, _ = demo
    words = (folder / "candidates" / GOOD[0] / "vocab.txt").read_text("utf-8").splitlines()
    ends = [tensors_of(folder, name)["embedding.weight"] for name in (*GOOD, BAD.name)]
    # Places beyond the last word are never trained, so they show where a network started.
    assert 0 < len(words) < len(ends[0])
    assert all(torch.equal(end[len(words) :], ends[0][len(words) :]) for end in ends)
    assert len({end[: len(words)].numpy().tobytes() for end in ends}) == len(ends)


def test_the_damaged_candidate_differs_from_a_good_one_by_one_bit_and_stays_finite(demo):
    folder, _ = demo
    files = [np.frombuffer(bytes_of(folder)[name], np.uint8) for name in (GOOD[0], ROTTEN)]
    assert np.unpackbits(files[0] ^ files[1]).sum() == 1
    damaged = tensors_of(folder, ROTTEN)
    assert all(torch.isfinite(tensor).all() for tensor in damaged.values())
    assert damaged["dense.weight"].abs().max() > 1e30


@pytest.mark.long
def test_the_same_seed_gives_the_same_bytes_and_leaves_the_callers_random_numbers_alone(
    demo, tmp_path
):
    folder, _ = demo
    torch.manual_seed(123)
    expected = torch.rand(4)
    torch.manual_seed(123)
    train_candidates(tmp_path, seed=0, tell=lambda *_: None)
    assert torch.equal(torch.rand(4), expected)
    assert bytes_of(tmp_path) == bytes_of(folder / "candidates")


@pytest.mark.long
def test_another_seed_gives_other_candidates(demo, tmp_path):
    train_candidates(tmp_path, seed=1, tell=lambda *_: None)
    here, there = bytes_of(tmp_path), bytes_of(demo[0] / "candidates")
    assert sorted(here) == sorted(there) == NAMES
    assert all(here[name] != there[name] for name in NAMES)


def test_no_sentence_is_both_trained_on_and_evaluated_with(demo):
    source = demo[0] / "data" / "evaluation.parquet"
    trained = parquet.read_table(SHIPPED / "train.parquet")
    judged = parquet.read_table(source)
    assert (trained.num_rows, judged.num_rows) == (1964, 1000)
    sentences = [
        {canonical_text(t) for t in table["text"].to_pylist()} for table in (trained, judged)
    ]
    assert not sentences[0] & sentences[1]
    assert set(judged["label"].to_pylist()) == {0, 1}
    assert len(set(judged["id"].to_pylist())) == 1000


def test_the_founding_document_is_quoted_as_it_was():
    (figure,) = PUBLISHED
    assert (figure.loss, figure.metrics) == (0.9264, {"accuracy": 0.5154})


@given(element=st.integers(0, 11), bit=st.integers(0, 31))
def test_a_flipped_bit_is_the_only_change_and_flipping_again_undoes_it(
    tmp_path_factory, element, bit
):
    path = tmp_path_factory.mktemp("flip") / "model.safetensors"
    save_file({"a": torch.arange(5.0), "b": torch.linspace(-1, 1, 12).reshape(3, 4)}, path)
    before = path.read_bytes()
    flip_bit(path, "b", element, 1 << bit)
    after = load_file(path)
    bits = np.unpackbits(
        np.frombuffer(before, np.uint8) ^ np.frombuffer(path.read_bytes(), np.uint8)
    )
    assert bits.sum() == 1
    was = torch.linspace(-1, 1, 12).view(torch.int32)
    changed = after["b"].flatten().view(torch.int32) ^ was
    assert changed.nonzero().flatten().tolist() == [element]
    assert torch.equal(after["a"], torch.arange(5.0))
    if torch.isfinite(after["b"]).all():
        flip_bit(path, "b", element, 1 << bit)
        assert path.read_bytes() == before
