"""Writes tests/golden/peft: small adapters trained on nothing, and what PEFT makes of them.

    pip install peft==0.21.2 accelerate    # not needed by the tests
    python tests/golden/make_peft_golden.py

Every case is an adapter as `save_pretrained` writes it, and `expected.safetensors`: the tensors that
`merge_and_unload` changed, from the base and the adapter in float64, so that PEFT's own rounding is
far below that of float32.
"""

import json
import shutil
from pathlib import Path

import torch
import transformers
from peft import LoraConfig, PeftModel, get_peft_model
from safetensors.torch import load_file, save_file

HERE = Path(__file__).parent / "peft"
COMMON = {"id2label": {0: "negative", 1: "positive"}, "label2id": {"negative": 0, "positive": 1}}
CASES = {
    "bert-patterns": ("bert", dict(
        r=4, lora_alpha=6, target_modules=["query", "value", "intermediate.dense"],
        rank_pattern={"value": 3, "layer.0.intermediate.dense": 5},
        alpha_pattern={r"^bert\.encoder\.layer\.0\.attention\.self\.query": 9},
        modules_to_save=["classifier"])),
    "bert-rslora": ("bert", dict(
        r=3, lora_alpha=5, use_rslora=True, target_modules=["query", "key", "output.dense"])),
    "bert-embedding": ("bert", dict(
        r=2, lora_alpha=4, target_modules=["word_embeddings", "query"])),
    "gpt2-conv1d": ("gpt2", dict(
        r=4, lora_alpha=8, target_modules=["c_attn", "c_proj", "c_fc"], fan_in_fan_out=True,
        modules_to_save=["score"])),
    "gpt2-conv1d-and-linear": ("gpt2", dict(
        r=2, lora_alpha=3, target_modules=["c_attn", "c_proj", "score"])),
}  # fmt: skip


def make_base(kind):
    torch.manual_seed(7)
    if kind == "bert":
        config = transformers.BertConfig(
            vocab_size=40, hidden_size=16, num_hidden_layers=1, num_attention_heads=2,
            intermediate_size=24, max_position_embeddings=16, **COMMON)
        return transformers.BertForSequenceClassification(config)
    config = transformers.GPT2Config(
        vocab_size=40, n_embd=16, n_layer=1, n_head=2, n_positions=16, n_inner=24, pad_token_id=0,
        bos_token_id=0, eos_token_id=0, **COMMON)
    return transformers.GPT2ForSequenceClassification(config)


def load_base(kind):
    classes = {"bert": transformers.BertForSequenceClassification,
               "gpt2": transformers.GPT2ForSequenceClassification}
    return classes[kind].from_pretrained(HERE / kind)


def make_case(name, kind, settings):
    torch.manual_seed(sum(map(ord, name)))
    model = get_peft_model(load_base(kind), LoraConfig(task_type="SEQ_CLS", **settings))
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.requires_grad:
                parameter.copy_(torch.randn_like(parameter) * 0.3)
    folder = HERE / name
    model.save_pretrained(folder)
    (folder / "README.md").unlink(missing_ok=True)
    settings_file = folder / "adapter_config.json"
    table = json.loads(settings_file.read_text())
    table["base_model_name_or_path"] = kind
    settings_file.write_text(json.dumps(table, indent=1, sort_keys=True) + "\n")
    whole = PeftModel.from_pretrained(load_base(kind), folder).double()
    merged = whole.merge_and_unload().state_dict()
    before = load_file(HERE / kind / "model.safetensors")
    changed = {
        key: value.contiguous() for key, value in merged.items()
        if key not in before or not torch.equal(value, before[key].double())
    }
    assert set(changed) <= set(before), sorted(set(changed) - set(before))
    save_file(changed, folder / "expected.safetensors")


def main():
    shutil.rmtree(HERE, ignore_errors=True)
    for kind in ("bert", "gpt2"):
        make_base(kind).save_pretrained(HERE / kind)
    for name, (kind, settings) in CASES.items():
        make_case(name, kind, settings)


main()
