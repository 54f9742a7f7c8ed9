import hashlib
import math
from fractions import Fraction

import pytest
import torch
from safetensors.torch import load_file

from cluster.stores.local.store import LocalStore
from cluster.stores.open_store import open_store
from cluster.workers.threads import ThreadRunner
from fusion.errors import IntegerError, NonFiniteError
from jobs.candidates.pin import pin_checkpoint
from jobs.errors import SourceChangedError
from tests.support.merging import (
    SHAPES,
    load_merged,
    merge,
    random_tensors,
    write_checkpoint,
    write_sources,
)

DTYPES = [torch.float32, torch.float16, torch.bfloat16, torch.float64]


def file_digest(path):
    return hashlib.sha256(path.read_bytes()).hexdigest()


def check_bound(outputs, inputs, weights):
    """The bound of the data sheet, against exact rational averages."""
    n = len(inputs)
    total = sum(map(Fraction, weights))
    for name, found in outputs.items():
        wide = found.dtype == torch.float64
        unit = Fraction(1, 2**53) if wide else Fraction(1, 2**24)
        smallest = Fraction(2) ** (-1074 if wide else -149)
        columns = [tensor[name].double().flatten().tolist() for tensor in inputs]
        flat = found.double().flatten().tolist()
        for index in range(0, len(flat), 7):
            terms = [
                Fraction(w) * Fraction(c[index]) for w, c in zip(weights, columns, strict=True)
            ]
            exact = sum(terms) / total
            spread = sum(map(abs, terms)) / abs(total)
            value = torch.tensor(flat[index], dtype=found.dtype)
            ulp = Fraction((torch.nextafter(value.abs(), torch.tensor(math.inf, dtype=found.dtype))
                            - value.abs()).double().item())  # fmt: skip
            allowed = ulp / 2 + (2 * n + 4) * unit * spread + smallest
            assert abs(Fraction(flat[index]) - exact) <= allowed, (name, index)


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("weights", [[0.3, 0.7], [0.2, 0.5, 0.3], [1.5, -0.5, 0.25, 1, 1, 1, 1, 2]])
def test_every_element_is_within_the_bound(tmp_path, dtype, weights):
    sources = write_sources(tmp_path, len(weights), dtype)
    plan, _ = merge(sources, weights, tmp_path / "out")
    inputs = [load_file(tmp_path / f"m{i}" / "model.safetensors") for i in range(len(weights))]
    outputs = load_merged(tmp_path / "out", plan)
    assert {name: tuple(t.shape) for name, t in outputs.items()} == SHAPES
    assert all(t.dtype == dtype for t in outputs.values())
    check_bound(outputs, inputs, weights)


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_trained_checkpoints_are_averaged_within_the_bound(project, tmp_path, dtype):
    sources, inputs = [], []
    for name in "abcd":
        tensors = load_file(project / "candidates" / name / "model.safetensors")
        inputs.append({n: t.to(dtype) for n, t in tensors.items()})
        write_checkpoint(tmp_path / name, inputs[-1])
        sources.append(pin_checkpoint(str(tmp_path / name), name=name)[0])
    weights = [0.26, 0.255, 0.245, 0.24]
    plan, _ = merge(sources, weights, tmp_path / "out", unit_bytes=1000)
    check_bound(load_merged(tmp_path / "out", plan), inputs, weights)


def test_mixed_dtypes_are_cast_once(tmp_path):
    write_checkpoint(tmp_path / "a", random_tensors(0, torch.float32))
    write_checkpoint(tmp_path / "b", random_tensors(1, torch.bfloat16))
    sources = [pin_checkpoint(str(tmp_path / name), name=name)[0] for name in "ab"]
    plan, _ = merge(sources, [0.5, 0.5], tmp_path / "out", dtype="bfloat16")
    inputs = [load_file(tmp_path / name / "model.safetensors") for name in "ab"]
    check_bound(load_merged(tmp_path / "out", plan), inputs, [0.5, 0.5])


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_one_model_alone_keeps_every_bit(tmp_path, dtype):
    sources = write_sources(tmp_path, 1, dtype)
    plan, _ = merge(sources, [1.0], tmp_path / "out")
    before = load_file(tmp_path / "m0" / "model.safetensors")
    after = load_merged(tmp_path / "out", plan)
    assert all(torch.equal(before[name], after[name]) for name in before)


def test_the_bytes_do_not_depend_on_workers_units_or_memory(tmp_path):
    sources = write_sources(tmp_path, 3, torch.bfloat16)
    digests = set()
    for workers in (1, 2, 4):
        for unit_bytes in (1001, 8192, 64 << 20):
            out = tmp_path / f"out-{workers}-{unit_bytes}"
            plan, outcome = merge(
                sources, [0.2, 0.3, 0.5], out, unit_bytes=unit_bytes, runner=ThreadRunner(),
                workers=workers, chunk_bytes=(1 << 20) if workers < 4 else 1 << 19,
            )  # fmt: skip
            assert outcome.num_units == len(plan.units)
            digests.add(file_digest(out / "model" / "model.safetensors"))
    assert len(digests) == 1


def test_tensors_larger_than_a_chunk_and_several_shards(tmp_path):
    shapes = {"x": (300_000,), "y": (100_001,)}
    sources = write_sources(tmp_path, 2, torch.float32, shapes)
    plan, _ = merge(
        sources, [0.5, 0.5], tmp_path / "out", shard_bytes=1_000_000, unit_bytes=333_333,
        chunk_bytes=1 << 19,
    )  # fmt: skip
    assert [shard.name for shard in plan.shards] == [
        "model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors",
    ]  # fmt: skip
    inputs = [load_file(tmp_path / f"m{i}" / "model.safetensors") for i in range(2)]
    check_bound(load_merged(tmp_path / "out", plan), inputs, [0.5, 0.5])


def test_a_merge_on_s3_gives_the_bytes_of_a_local_one(tmp_path, moto, use):
    use(moto)
    sources = write_sources(tmp_path, 2, torch.float32, {"x": (1_700_000,)})
    merge(sources, [0.5, 0.5], tmp_path / "out", unit_bytes=5 << 20)
    merge(sources, [0.5, 0.5], "s3://plain/merge-test", unit_bytes=5 << 20)
    content = open_store("s3://plain/merge-test").read("model/model.safetensors")
    assert content == (tmp_path / "out/model/model.safetensors").read_bytes()


def test_doing_it_twice_computes_nothing(tmp_path):
    sources = write_sources(tmp_path, 2)
    plan, first = merge(sources, [0.5, 0.5], tmp_path / "out", unit_bytes=8192)
    _, second = merge(sources, [0.5, 0.5], tmp_path / "out", unit_bytes=8192)
    assert (first.num_resumed, second.num_resumed) == (0, len(plan.units))
    assert second.written_bytes == 0
    assert first.files == second.files


def test_a_source_that_changed_after_planning_stops_the_merge(tmp_path):
    sources = write_sources(tmp_path, 2)
    write_checkpoint(tmp_path / "m1", random_tensors(9))
    with pytest.raises(SourceChangedError, match=r"m1/model\.safetensors was .* and is .* now"):
        merge(sources, [0.5, 0.5], tmp_path / "out")
    assert not (tmp_path / "out" / "model" / "model.safetensors").exists()


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_a_nan_names_candidate_and_tensor(tmp_path, value):
    tensors = random_tensors(1)
    tensors["e.big"][500, 3] = value
    write_sources(tmp_path, 2)
    write_checkpoint(tmp_path / "m1", tensors)
    sources = [pin_checkpoint(str(tmp_path / f"m{i}"), name=f"m{i}")[0] for i in range(2)]
    with pytest.raises(NonFiniteError, match="1 NaN or infinite") as caught:
        merge(sources, [0.5, 0.5], tmp_path / "out")
    assert (caught.value.checkpoint, caught.value.tensor) == ("m1", "e.big")


def test_an_average_that_overflows_its_dtype_is_refused(tmp_path):
    for name in "ab":
        write_checkpoint(tmp_path / name, {"w": torch.full((8,), 1e30)})
    sources = [pin_checkpoint(str(tmp_path / name), name=name)[0] for name in "ab"]
    with pytest.raises(NonFiniteError, match="more than F16 holds"):
        merge(sources, [0.5, 0.5], tmp_path / "out", dtype="float16")


def test_equal_integers_are_copied_and_others_refused(tmp_path):
    for name, last in (("a", 2), ("b", 2), ("c", 7)):
        write_checkpoint(tmp_path / name, {"ids": torch.tensor([0, 1, last]), "w": torch.ones(3)})
    a, b, c = (pin_checkpoint(str(tmp_path / name), name=name)[0] for name in "abc")
    plan, _ = merge([a, b], [0.5, 0.5], tmp_path / "out")
    assert load_merged(tmp_path / "out", plan)["ids"].tolist() == [0, 1, 2]
    with pytest.raises(IntegerError, match="differs between a and c, first at element 2"):
        merge([a, c], [0.5, 0.5], tmp_path / "other")


def test_a_full_disk_stops_before_the_first_unit(tmp_path, monkeypatch):
    import shutil

    from cluster.errors import FullError

    sources = write_sources(tmp_path, 2)
    usage = shutil.disk_usage(tmp_path)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage._replace(free=10))
    with pytest.raises(FullError):
        merge(sources, [0.5, 0.5], tmp_path / "out")
    assert list(LocalStore(str(tmp_path / "out")).list("model/")) == []
