import math

import pytest
import torch
from safetensors.torch import save_file

from cluster.stores.open_store import open_store
from fusion.checkpoints.checkpoint import TensorSpec
from fusion.dtypes import ITEM_BYTES
from fusion.errors import NonFiniteError
from jobs.candidates.pin import pin_checkpoint
from jobs.errors import SourceChangedError
from jobs.models.tensor_reads import TensorReader, cut_spans, empty_like, read_tensors
from jobs.models.unfilled import CPU
from tests.support.merging import random_tensors, write_checkpoint

MIXED = {
    **random_tensors(1),
    "f.half": torch.tensor([1.5, -2.5, 65504.0], dtype=torch.float16),
    "g.brain": torch.tensor([3.0e38, -1.0], dtype=torch.bfloat16),
    "h.double": torch.tensor([1 / 3, -1e30], dtype=torch.float64),
    "i.whole": torch.arange(9).view(3, 3),
    "j.truth": torch.tensor([True, False]),
}


def pin(folder, tensors):
    return pin_checkpoint(str(write_checkpoint(folder, tensors)), name="m")[0]


def spec(name, dtype, count, start, shard="a"):
    return TensorSpec(name, dtype, (count,), shard, start, start + count * ITEM_BYTES[dtype])


def widened(tensor):
    return tensor.float() if tensor.is_floating_point() else tensor


def test_every_dtype_arrives_widened_or_as_it_is(tmp_path):
    read = read_tensors(pin(tmp_path / "m", MIXED), CPU)
    assert read.tensors.keys() == MIXED.keys()
    assert all(torch.equal(read.tensors[name], widened(MIXED[name])) for name in MIXED)
    assert {read.tensors[name].dtype for name in ("f.half", "g.brain")} == {torch.float32}
    assert (read.largest, read.where) == (float(MIXED["g.brain"][0]), "g.brain")


@pytest.mark.parametrize("piece_bytes", [8, 24, 64, 1000, 1 << 20])
def test_the_cutting_changes_nothing(tmp_path, piece_bytes):
    checkpoint = pin(tmp_path / "m", MIXED)
    targets = {spec.name: empty_like(spec, CPU) for spec in checkpoint.tensors}
    reader = TensorReader(checkpoint, targets, piece_bytes)
    for span in cut_spans(checkpoint.tensors, piece_bytes):
        reader.read(span)
    reader.close()
    assert all(torch.equal(targets[name], widened(MIXED[name])) for name in MIXED)


@pytest.mark.parametrize("piece_bytes", [8, 100, 4096])
def test_spans_cover_every_element_once_in_file_order(tmp_path, piece_bytes):
    checkpoint = pin(tmp_path / "m", MIXED)
    spans = cut_spans(checkpoint.tensors, piece_bytes)
    assert all(span[-1].end - span[0].start <= piece_bytes for span in spans)
    parts = [part for span in spans for part in span]
    assert [part.start for part in parts] == sorted(part.start for part in parts)
    for found in checkpoint.tensors:
        own = [(part.first, part.last) for part in parts if part.spec.name == found.name]
        ends = [0, *(last for _, last in own)]
        assert [first for first, _ in own] == ends[:-1]
        assert ends[-1] == math.prod(found.shape)


def test_neighbours_share_a_span_unless_an_element_would_begin_askew():
    together = cut_spans([spec("x", "F32", 2, 80), spec("y", "F16", 3, 88)], 64)
    assert [[part.spec.name for part in span] for span in together] == [["x", "y"]]
    askew = cut_spans([spec("x", "F16", 1, 80), spec("y", "F32", 2, 82)], 64)
    assert [[part.spec.name for part in span] for span in askew] == [["x"], ["y"]]


def test_spans_end_with_their_shard():
    spans = cut_spans([spec("x", "F32", 2, 80), spec("y", "F32", 2, 88, shard="b")], 64)
    assert [[part.spec.name for part in span] for span in spans] == [["x"], ["y"]]


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16], ids=str)
def test_bad_values_are_counted_over_all_pieces_of_the_first_bad_tensor(tmp_path, dtype):
    tensors = {name: torch.ones(600_000, dtype=dtype) for name in ("a", "b", "c")}
    tensors["b"][[0, 299_999, 599_999]] = torch.tensor([math.nan, math.inf, -math.inf], dtype=dtype)
    tensors["c"][5] = math.nan
    with pytest.raises(NonFiniteError, match="b of m has 3 NaN or infinite values of 600,000"):
        read_tensors(pin(tmp_path / "m", tensors), CPU)


def test_a_double_that_float32_cannot_hold_is_not_called_infinite(tmp_path):
    read = read_tensors(pin(tmp_path / "m", {"x": torch.tensor([-1e300], dtype=torch.double)}), CPU)
    assert (read.largest, read.where) == (1e300, "x")


def test_the_first_of_equal_magnitudes_is_named(tmp_path):
    tensors = {"b": torch.tensor([2.0]), "a": torch.tensor([-2.0]), "c": torch.zeros(0)}
    read = read_tensors(pin(tmp_path / "m", tensors), CPU)
    assert (read.largest, read.where) == (2.0, "a")


def test_a_shard_that_was_replaced_or_removed_is_named_with_its_pin(tmp_path):
    checkpoint = pin(tmp_path / "m", random_tensors(1))
    etag = checkpoint.shards[0].pin.etag
    save_file(random_tensors(2), tmp_path / "m/model.safetensors")
    said = f"model.safetensors was {etag} ("
    for _ in range(2):
        with pytest.raises(SourceChangedError) as raised:
            read_tensors(checkpoint, CPU)
        assert said in str(raised.value)
        (tmp_path / "m/model.safetensors").unlink(missing_ok=True)


@pytest.mark.s3
def test_ranges_from_s3_become_the_same_tensors_until_the_object_changes(tmp_path, moto, use):
    use(moto)
    big = {**random_tensors(1), "z.big": torch.arange(3_000_000, dtype=torch.float32)}
    write_checkpoint(tmp_path / "m", big)
    store = open_store("s3://plain/reads")
    for path in (tmp_path / "m").iterdir():
        store.put(f"m/{path.name}", path.read_bytes())
    checkpoint = pin_checkpoint("s3://plain/reads/m", name="m")[0]
    read = read_tensors(checkpoint, CPU)
    assert all(torch.equal(read.tensors[name], big[name]) for name in big)
    store.put("m/model.safetensors", (tmp_path / "m/model.safetensors").read_bytes()[::-1])
    with pytest.raises(SourceChangedError, match=r"m/model\.safetensors was .* when it was"):
        read_tensors(checkpoint, CPU)
