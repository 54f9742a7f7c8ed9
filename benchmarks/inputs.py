"""Checkpoints for benchmarks: bfloat16, in the shape of Llama-3.2-1B, one a process call.

python benchmarks/inputs.py FOLDER COUNT LAYERS
"""

import json
import sys
from collections.abc import Iterator
from pathlib import Path

HIDDEN, FEED_FORWARD, VOCABULARY, KEY_VALUE = 2048, 8192, 128256, 512
SHARD_BYTES = 1_000_000_000
CONFIG = {
    "architectures": ["LlamaForCausalLM"], "model_type": "llama", "hidden_size": HIDDEN,
    "intermediate_size": FEED_FORWARD, "num_attention_heads": 32, "num_key_value_heads": 8,
    "head_dim": 64, "vocab_size": VOCABULARY, "tie_word_embeddings": True, "rms_norm_eps": 1e-5,
    "torch_dtype": "bfloat16", "hidden_act": "silu", "max_position_embeddings": 8192,
    "rope_theta": 500000.0, "bos_token_id": 128000, "eos_token_id": 128001,
}  # fmt: skip


def shapes(layers: int) -> Iterator[tuple[str, tuple[int, ...]]]:
    """Tensor names and shapes in file order."""
    yield "model.embed_tokens.weight", (VOCABULARY, HIDDEN)
    for layer in range(layers):
        stem = f"model.layers.{layer}."
        yield stem + "input_layernorm.weight", (HIDDEN,)
        yield stem + "mlp.down_proj.weight", (HIDDEN, FEED_FORWARD)
        yield stem + "mlp.gate_proj.weight", (FEED_FORWARD, HIDDEN)
        yield stem + "mlp.up_proj.weight", (FEED_FORWARD, HIDDEN)
        yield stem + "post_attention_layernorm.weight", (HIDDEN,)
        yield stem + "self_attn.k_proj.weight", (KEY_VALUE, HIDDEN)
        yield stem + "self_attn.o_proj.weight", (HIDDEN, HIDDEN)
        yield stem + "self_attn.q_proj.weight", (HIDDEN, HIDDEN)
        yield stem + "self_attn.v_proj.weight", (KEY_VALUE, HIDDEN)
    yield "model.norm.weight", (HIDDEN,)


def make_models(folder: Path, count: int, layers: int) -> None:
    """A base and `count - 1` neighbours of it, in shards of 1 GB, with index and config."""
    import torch

    generator = torch.Generator().manual_seed(0)
    base = {
        name: torch.randn(shape, generator=generator).mul_(0.02).bfloat16()
        for name, shape in shapes(layers)
    }
    for number in range(count):
        place = folder / f"m{number}"
        place.mkdir(parents=True)
        (place / "config.json").write_text(json.dumps({**CONFIG, "num_hidden_layers": layers}))
        tensors = {
            name: tensor + torch.randn(tensor.shape, dtype=tensor.dtype).mul_(0.002 * number)
            for name, tensor in base.items()
        }
        _write_shards(place, tensors)


def _write_shards(place: Path, tensors: dict[str, "torch.Tensor"]) -> None:  # type: ignore[name-defined] # noqa: F821
    from safetensors.torch import save_file

    shards: list[dict[str, object]] = [{}]
    filled = 0
    for name, tensor in tensors.items():
        if shards[-1] and filled + tensor.nbytes > SHARD_BYTES:
            shards.append({})
            filled = 0
        shards[-1][name] = tensor
        filled += tensor.nbytes
    where = {}
    for number, shard in enumerate(shards):
        file = f"model-{number + 1:05d}-of-{len(shards):05d}.safetensors"
        save_file(shard, place / file, metadata={"format": "pt"})
        where |= dict.fromkeys(shard, file)
    total = sum(tensor.nbytes for tensor in tensors.values())
    index = {"metadata": {"total_size": total}, "weight_map": where}
    (place / "model.safetensors.index.json").write_text(json.dumps(index))


if __name__ == "__main__":
    make_models(Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3]))
