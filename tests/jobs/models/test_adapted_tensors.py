import shutil

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from fusion.errors import NonFiniteError
from jobs.candidates.find import pin_base
from jobs.candidates.pin import pin_checkpoint
from jobs.models.adapted_tensors import load_tensors
from jobs.models.families import load_model
from jobs.models.unfilled import CPU
from tests.support.adapters import random_factors, write_adapter, write_base
from tests.support.merging import load_merged, merge
from tests.support.predicting import probabilities
from tests.support.tiny_models import TEXTS, write_classifier

SHAPES = {"layer.q.weight": (70, 33), "layer.v.weight": (24, 40), "norm": (9,), "z.bias": (5,)}
FACTORS = {"layer.q": (70, 33), "layer.v": (24, 40)}


def adapter(folder, dtype, *, change=None):
    base = write_base(folder / "base", SHAPES, dtype=dtype)
    factors = random_factors(3, FACTORS)
    if change is not None:
        change(factors)
    write_adapter(folder / "a", factors, saved={"z.bias": torch.ones(5)},
                  target_modules=["q", "v"], modules_to_save=["z"])  # fmt: skip
    return pin_checkpoint(str(folder / "a"), name="a", base=pin_base(str(base)))[0]


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float64], ids=str)
def test_an_adapter_has_the_bits_of_a_merge_of_it_alone(tmp_path, dtype):
    checkpoint = adapter(tmp_path, dtype)
    wide = "float64" if dtype == torch.float64 else "float32"
    plan, _ = merge([checkpoint], [1.0], tmp_path / "out", dtype=wide, chunk_bytes=1 << 18)
    merged = load_merged(tmp_path / "out", plan)
    read = load_tensors(checkpoint, CPU)
    assert read.tensors.keys() == merged.keys() == SHAPES.keys()
    assert all(torch.equal(read.tensors[name], merged[name].float()) for name in merged)
    assert not torch.equal(
        read.tensors["layer.q.weight"],
        load_file(tmp_path / "base/model.safetensors")["layer.q.weight"].float(),
    )
    assert read.largest == max(float(tensor.abs().max()) for tensor in merged.values())


def test_a_nan_in_an_adapter_is_its_own(tmp_path):
    def spoil(factors):
        factors["layer.v"][0][0, 0] = torch.nan

    with pytest.raises(NonFiniteError, match=r"layer\.v\.weight of a has 24 NaN"):
        load_tensors(adapter(tmp_path, torch.float32, change=spoil), CPU)


def test_nothing_is_written_for_an_adapter(tmp_path, monkeypatch):
    checkpoint = adapter(tmp_path, torch.float32)
    before = sorted(tmp_path.rglob("*"))
    scratch = tmp_path / "scratch"
    scratch.mkdir()
    monkeypatch.setenv("TMPDIR", str(scratch))
    load_tensors(checkpoint, CPU)
    assert sorted(tmp_path.rglob("*")) == sorted([*before, scratch])


@pytest.mark.parametrize(
    ("kind", "module"),
    [
        ("bert", "bert.encoder.layer.0.attention.self.query"),
        ("roberta", "roberta.encoder.layer.0.attention.self.query"),
        ("gpt2", "transformer.h.0.mlp.c_fc"),
    ],
)
def test_an_adapter_with_its_own_head_over_a_bare_encoder_predicts_as_the_classifier(
    tmp_path, kind, module
):
    whole = write_classifier(tmp_path / "whole", kind, labels=("LABEL_0", "LABEL_1", "LABEL_2"))
    tensors = load_file(whole / "model.safetensors")
    body = module.partition(".")[0] + "."
    head = {n: t for n, t in tensors.items() if not n.startswith(body)}
    encoder = {n.removeprefix(body): t for n, t in tensors.items() if n.startswith(body)}
    base = write_classifier(tmp_path / "base", kind, head=False)
    shutil.copy(whole / "tokenizer.json", base)  # training one is not deterministic
    save_file(encoder, base / "model.safetensors", metadata={"format": "pt"})
    shape = tensors[f"{module}.weight"].shape
    rows, columns = shape if kind != "gpt2" else shape[::-1]
    factors = {module: (torch.ones(4, columns), torch.zeros(rows, 4))}
    write_adapter(tmp_path / "a", factors, saved=head, task_type="SEQ_CLS")
    candidate = pin_checkpoint(str(tmp_path / "a"), name="a", base=pin_base(str(base)))[0]
    found = probabilities(load_model(candidate).model, TEXTS)
    expected = probabilities(load_model(pin_checkpoint(str(whole), name="w")[0]).model, TEXTS)
    assert found.shape == (len(TEXTS), 3)
    assert np.abs(found - expected).max() < 1e-6
