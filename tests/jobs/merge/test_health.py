import random

import pytest
import torch
from safetensors.torch import load_file

from cluster.stores.open_store import open_store
from cluster.workers.hands import Hands
from cluster.workers.runner import SerialRunner
from cluster.workers.threads import ThreadRunner
from fusion.canonical import from_json
from fusion.manifests.model import ModelManifest
from fusion.plans.health import BLOCK_ELEMENTS, describe_model
from fusion.plans.layout import plan_merge
from fusion.plans.requests import model_request
from fusion.plans.wish import MergeWish
from jobs.candidates.pin import pin_checkpoint
from jobs.commands.merge import run_merge
from jobs.merge.driver import merge_all
from jobs.merge.job import MergeJob
from jobs.merge.ledger import Ledger
from jobs.merge.memory import fit_worker
from jobs.mergekit.flags import MergeOptions
from tests.support.merging import load_merged, merge, write_checkpoint, write_sources

# Several blocks, some of them cut by units; one tensor of no element, one of a single one.
SHAPES = {"a": (5 * BLOCK_ELEMENTS + 77,), "b": (3, 50_001), "c": (), "d": (0, 4)}
UNIT_BYTES = 150_001  # odd: elements straddle the borders of units


@pytest.fixture(scope="module")
def sources(tmp_path_factory):
    return write_sources(tmp_path_factory.mktemp("sources"), 3, torch.bfloat16, SHAPES)


class ShuffledRunner(SerialRunner):
    """Computes units in another order."""

    def __init__(self, seed: int) -> None:
        self._seed = seed

    def run_pool(self, make, orders, **changes):
        mixed = list(orders)
        random.Random(self._seed).shuffle(mixed)
        return super().run_pool(make, mixed, **changes)


def measured(sources, out, **changes):
    plan, outcome = merge(sources, [0.2, 0.3, 0.5], out, unit_bytes=UNIT_BYTES, **changes)
    return plan, outcome.health


@pytest.mark.parametrize("mode", ["sampled", "full"])
def test_health_depends_on_no_worker_no_chunk_size_and_no_order(tmp_path, sources, mode):
    runs = [
        {"workers": 1},
        {"workers": 2, "runner": ThreadRunner()},
        {"workers": 4, "runner": ThreadRunner(), "chunk_bytes": 1 << 17},
        {"workers": 1, "chunk_bytes": 1 << 19},
        {"workers": 1, "runner": ShuffledRunner(1)},
        {"workers": 1, "runner": ShuffledRunner(2), "chunk_bytes": 1 << 17},
    ]
    found = [
        measured(sources, tmp_path / str(index), health=mode, **changes)[1]
        for index, changes in enumerate(runs)
    ]
    assert all(health == found[0] for health in found)


def test_full_and_sampled_see_the_same_largest_value_and_write_the_same_bytes(tmp_path, sources):
    plan, full = measured(sources, tmp_path / "full", health="full")
    _, sampled = measured(sources, tmp_path / "sampled", health="sampled")
    outputs = load_merged(tmp_path / "full", plan)
    assert all(
        torch.equal(tensor, load_merged(tmp_path / "sampled", plan)[name])
        for name, tensor in outputs.items()
    )
    largest = [float(outputs[name].abs().max()) for name in "abc"]
    assert [tensor.absmax for tensor in full.tensors] == largest
    assert [tensor.absmax for tensor in sampled.tensors] == largest
    assert full.summary.absmax == sampled.summary.absmax == max(largest)
    assert [tensor.share for tensor in full.tensors] == [1, 1, 1]
    assert sampled.tensors[0].share < 1
    assert sampled.tensors[2].share == 1


def test_full_health_is_that_of_the_files(tmp_path, sources):
    plan, health = measured(sources, tmp_path / "out", health="full")
    inputs = [load_file(f"{source.uri}/model.safetensors") for source in sources]
    outputs = load_merged(tmp_path / "out", plan)
    assert [tensor.name for tensor in health.tensors] == ["a", "b", "c"]
    for tensor in health.tensors:
        output = outputs[tensor.name].double().flatten()
        assert tensor.rms == pytest.approx(float(output.square().mean().sqrt()), rel=2e-5)
        norms = []
        for cosine, values in zip(tensor.cosines, inputs, strict=True):
            source = values[tensor.name].double().flatten()
            norms.append(float(source.norm()))
            exact = float(output @ source / (output.norm() * source.norm()))
            assert cosine == pytest.approx(exact, abs=2e-5)
        ratio = float(output.norm()) / (sum(norms) / 3)
        assert tensor.norm_ratio == pytest.approx(ratio, rel=4e-5)
    everything = torch.cat([outputs[name].double().flatten() for name in "abc"])
    for candidate, values in zip(health.summary.candidates, inputs, strict=True):
        source = torch.cat([values[name].double().flatten() for name in "abc"])
        exact = float(everything @ source / (everything.norm() * source.norm()))
        assert candidate.cosine == pytest.approx(exact, abs=2e-5)


def test_units_fold_to_the_same_health_in_any_order(tmp_path, sources):
    plan, health = measured(sources, tmp_path / "out")
    records = Ledger(open_store(str(tmp_path / "out")), "ledger").read(0)
    assert len(records) == len(plan.units)
    pieces = [piece for record in records for piece in record.health]
    for seed in range(5):
        random.Random(seed).shuffle(pieces)
        assert health == describe_model(
            pieces,
            candidates=["m0", "m1", "m2"],
            sources={name: [0, 1, 2] for name in SHAPES},
            mode="sampled",
        )


def test_a_merge_taken_up_again_has_the_health_of_one_that_never_stopped(tmp_path, sources):
    class Stop(Exception):
        pass

    def stop(done, *_):
        if done == 3:
            raise Stop

    plan = plan_merge(model_request(sources, [0.2, 0.3, 0.5], MergeWish()), unit_bytes=UNIT_BYTES)
    out = str(tmp_path / "out")
    job = MergeJob(plan, out, "model", "ledger", fit_worker(plan, out, 1 << 30))
    with pytest.raises(Stop):
        merge_all(job, Hands(SerialRunner(), 1), tell=stop)
    outcome = merge_all(job, Hands(SerialRunner(), 1))
    assert outcome.num_resumed >= 3
    assert outcome.health == measured(sources, tmp_path / "other")[1]


def test_whole_numbers_have_no_health(tmp_path):
    for name in "ab":
        write_checkpoint(tmp_path / name, {"ids": torch.arange(10)})
    pinned = [pin_checkpoint(str(tmp_path / name), name=name)[0] for name in "ab"]
    _, outcome = merge(pinned, [0.5, 0.5], tmp_path / "out")
    assert outcome.health is None


DOCUMENT = """\
candidates: [m0, m1, m2]
weights: {rule: uniform}
merge: {health: full}
"""


def merged_by_command(folder, out, health=None):
    (folder / "merge.yaml").write_text(DOCUMENT)
    run_merge(
        folder / "merge.yaml",
        str(folder / out),
        memory="1GiB",
        as_json=True,
        options=MergeOptions(workers=1, health=health),
    )
    return from_json(ModelManifest, (folder / out / "manifest.json").read_bytes())


def test_the_manifest_of_a_merge_tells_the_health(tmp_path, capsys):
    write_sources(tmp_path, 3, torch.float32, SHAPES)
    manifest = merged_by_command(tmp_path, "full")
    assert manifest.health.summary.mode == "full"
    assert manifest.health.summary.share == 1
    # Three models that share nothing: each has a third of the average, and the norm shrinks.
    for candidate in manifest.health.summary.candidates:
        assert candidate.cosine == pytest.approx(3**-0.5, abs=0.01)
    assert manifest.health.summary.norm_ratio == pytest.approx(3**-0.5, abs=0.01)
    assert "variance collapse" in capsys.readouterr().err


def test_the_flag_goes_before_the_document_and_changes_no_plan(tmp_path):
    write_sources(tmp_path, 3, torch.float32, SHAPES)
    full = merged_by_command(tmp_path, "full")
    sampled = merged_by_command(tmp_path, "sampled", health="sampled")
    assert sampled.health.summary.mode == "sampled"
    assert sampled.plan == full.plan
    assert sampled.files[2] == full.files[2]
    assert full.files[2].name == "model.safetensors"


def test_a_merge_repeated_with_other_health_keeps_the_manifest(tmp_path):
    write_sources(tmp_path, 3, torch.float32, SHAPES)
    before = merged_by_command(tmp_path, "out")
    after = merged_by_command(tmp_path, "out", health="sampled")
    assert after == before
