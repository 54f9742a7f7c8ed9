"""Small adapters on disk, and what they add, in float64."""

import json
import math
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file

from tests.support.merging import write_checkpoint

PREFIX = "base_model.model."


def write_adapter(folder: Path, factors, *, saved=None, **settings) -> Path:
    """An adapter of {module: (A, B)}; `saved` are tensors that replace the base's."""
    folder.mkdir(parents=True, exist_ok=True)
    tensors = {f"{PREFIX}{name}": tensor for name, tensor in (saved or {}).items()}
    for module, (a, b) in factors.items():
        tensors[f"{PREFIX}{module}.lora_A.weight"] = a
        tensors[f"{PREFIX}{module}.lora_B.weight"] = b
    save_file(tensors, folder / "adapter_model.safetensors", metadata={"format": "pt"})
    table = {"peft_type": "LORA", "r": 4, "lora_alpha": 8, "bias": "none", **settings}
    (folder / "adapter_config.json").write_text(json.dumps(table))
    return folder


def write_base(folder: Path, shapes, *, seed=0, dtype=torch.float32, config=None) -> Path:
    generator = torch.Generator().manual_seed(seed)
    tensors = {
        name: torch.randn(shape, generator=generator).to(dtype) for name, shape in shapes.items()
    }
    return write_checkpoint(folder, tensors, config)


def random_factors(seed, shapes, rank=4, dtype=torch.float32):
    """{module: (A, B)} for {module: (outputs, inputs)}."""
    generator = torch.Generator().manual_seed(seed)
    return {
        module: (
            torch.randn(rank, inputs, generator=generator).to(dtype),
            torch.randn(outputs, rank, generator=generator).to(dtype) * 0.1,
        )
        for module, (outputs, inputs) in shapes.items()
    }


def dense(base: Path, factors, *, scale, saved=None):
    """Base plus scale * B A, in float64, by tensor; and the sum of magnitudes that bounds it."""
    tensors = {name: t.double() for name, t in load_file(base / "model.safetensors").items()}
    tensors |= {name: t.double() for name, t in (saved or {}).items()}
    sizes = {name: t.abs() for name, t in tensors.items()}
    for module, (a, b) in factors.items():
        tensors[f"{module}.weight"] = tensors[f"{module}.weight"] + scale * b.double() @ a.double()
        sizes[f"{module}.weight"] = (
            sizes[f"{module}.weight"] + abs(scale) * b.double().abs() @ a.double().abs()
        )
    return tensors, sizes


def check_close(found, exact, sizes, *, terms):
    """Within `terms` units of float32 of the sum of magnitudes, and the rounding of the output."""
    for name, values in found.items():
        item = torch.finfo(values.dtype).eps / 2
        allowed = terms * 2**-24 * sizes[name] + item * exact[name].abs() + 2**-149
        worst = ((values.double() - exact[name]).abs() - allowed).max()
        assert worst <= 0 or math.isclose(worst, 0), (name, float(worst))
