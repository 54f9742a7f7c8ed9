"""A whole run gives the numbers that release 0.1 gave, example by example.

On the machine that made them they are equal to the bit; matrices multiplied in float32 round
otherwise on another processor.
"""

import json
import zipfile
from pathlib import Path

import numpy as np
import pytest

from cluster.stores.open_store import open_store
from jobs.evaluate.record_files import load_records
from tests.support.running import run_project

KEPT = Path(__file__).parents[2] / "kept" / "judging.zip"
NIGHT = "runs/nightly-2026-11-24"
ROUNDING = 1e-6


@pytest.fixture
def scene(tmp_path):
    """Its candidates, data and recipe in a folder, with an empty output."""
    with zipfile.ZipFile(KEPT) as kept:
        kept.extractall(tmp_path)
    recipe = tmp_path / "recipe.yaml"
    text = recipe.read_text().replace("s3://plain/kept", str(tmp_path))
    recipe.write_text(text.replace(f"{tmp_path}/out", f"{tmp_path}/again"))
    return tmp_path


def test_losses_outputs_and_weights_are_those_of_release_0_1(scene):
    run_project(scene, date="2026-11-24")
    before, after = open_store(f"{scene}/out/{NIGHT}"), open_store(f"{scene}/again/{NIGHT}")
    keys = [entry.key for entry in before.list("scores/")]
    assert len(keys) == 10
    for key in keys:
        (old, _), (new, _) = load_records(before, key), load_records(after, key)
        assert new.ids == old.ids
        assert new.clusters == old.clusters
        np.testing.assert_allclose(new.losses, old.losses, rtol=0, atol=ROUNDING)
        np.testing.assert_allclose(new.outputs, old.outputs, rtol=0, atol=ROUNDING)
    old, new = (json.loads(store.read("weights.json")) for store in (before, after))
    assert new["weights"] == pytest.approx(old["weights"], rel=0, abs=ROUNDING)
    assert {**new, "weights": old["weights"]} == old
