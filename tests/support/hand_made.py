"""Checkpoints made by hand, without a file: fixed pins, so that what follows from them is fixed."""

import math
from dataclasses import replace

from fusion.checkpoints.checkpoint import (
    AdaptedTensor,
    Adapter,
    Checkpoint,
    Pin,
    PinnedFile,
    TensorSpec,
)

ITEM = {"F64": 8, "F32": 4, "BF16": 2, "F16": 2, "I64": 8, "U8": 1, "BOOL": 1}


def make_checkpoint(name, shapes, *, dtype="F32", shard="model.safetensors", adapter=None):
    """Tensors one after the other in one shard; a dtype for all, or one a name.

    Args:
        name: goes into the pins.
        shapes: by name of the tensor.
        dtype: safetensors name, or a table of them by tensor.
        shard: name of the file.
        adapter: what makes it one.
    """
    tensors, position = [], 1000
    for key, shape in shapes.items():
        kind = dtype if isinstance(dtype, str) else dtype[key]
        end = position + ITEM[kind] * math.prod(shape)
        tensors.append(TensorSpec(key, kind, tuple(shape), shard, position, end))
        position = end
    file = PinnedFile(shard, Pin(position, f"etag-of-{name}", f"version-of-{name}"))
    side = PinnedFile("config.json", Pin(17, f"config-of-{name}"))
    return Checkpoint(
        name=name,
        uri=f"s3://bucket/{name}",
        shards=(file,),
        tensors=tuple(tensors),
        side_files=(side,),
        adapter=adapter,
    )


def configured(name, config, shapes=None):
    """A checkpoint with a config, of one small tensor unless `shapes` says else."""
    return replace(make_checkpoint(name, shapes or {"w": (4, 2)}), config=config)


def make_adapter(name, base, ranks, *, scale=0.5, is_transposed=False):
    """An adapter of `base` that adapts its matrices by factors of these ranks.

    Args:
        name: goes into the pins.
        base: a checkpoint.
        ranks: by name of the base's tensor, `<module>.weight`.
        scale: of every product.
        is_transposed: the base keeps its matrices as [inputs, outputs].
    """
    shapes, by_name = {}, {spec.name: spec for spec in base.tensors}
    for key, rank in ranks.items():
        outputs, inputs = by_name[key].shape[::-1] if is_transposed else by_name[key].shape
        shapes[f"{key}.A"], shapes[f"{key}.B"] = (rank, inputs), (outputs, rank)
    file = "adapter_model.safetensors"
    own = make_checkpoint(name, shapes, shard=file)
    factors = {spec.name: spec for spec in own.tensors}
    adapted = {
        key: AdaptedTensor(
            a=factors[f"{key}.A"],
            b=factors[f"{key}.B"],
            scale=scale,
            is_transposed=is_transposed,
            module=key.removesuffix(".weight"),
            is_embedding=False,
        )
        for key in ranks
    }
    adapter = Adapter(base=base, adapted=adapted, saved={}, settings={"r": 8})
    return make_checkpoint(name, shapes, shard=file, adapter=adapter)
