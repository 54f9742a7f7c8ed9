"""What loading a model of 400 MB takes, in a process of its own: memory, and bytes written."""

import json
import subprocess
import sys

import pytest
import torch
import transformers
from safetensors.torch import save_file

from tests.support.tiny_models import make_tokenizer

MIB = 1 << 20
# Pieces, threads and the bare model: 3 MiB measured.
BESIDE_BYTES = 16 * MIB
SIDE_BYTES = 1 * MIB
MEASURE = """
import json, sys
from cluster.workers.process_memory import peak_bytes
from jobs.candidates.pin import pin_checkpoint
from jobs.models.families import load_model

def load(folder):
    return load_model(pin_checkpoint(folder, name="m")[0])

def written():
    with open("/proc/self/io") as io:
        return next(int(line.split()[1]) for line in io if line.startswith("wchar"))

load(sys.argv[1])
before = peak_bytes(), written()
kept = load(sys.argv[2])
print(json.dumps([peak_bytes() - before[0], written() - before[1]]))
"""


def write_bert(folder, *, dtype=torch.float32, **sizes):
    config = transformers.BertConfig(num_attention_heads=2, max_position_embeddings=64, **sizes)
    config.architectures = ["BertForSequenceClassification"]
    with torch.device("meta"):
        model = transformers.BertForSequenceClassification(config)
    tensors = {n: torch.zeros(p.shape, dtype=dtype) for n, p in model.named_parameters()}
    config.save_pretrained(folder)
    make_tokenizer("bert").save_pretrained(folder)
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
    return 4 * sum(tensor.numel() for tensor in tensors.values())


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
@pytest.mark.long
def test_memory_is_one_model_and_disk_the_side_files(tmp_path, dtype):
    write_bert(tmp_path / "small", hidden_size=16, intermediate_size=16, num_hidden_layers=1)
    model_bytes = write_bert(
        tmp_path / "large", dtype=dtype, vocab_size=50_000, hidden_size=1024,
        intermediate_size=4096, num_hidden_layers=4,
    )  # fmt: skip
    assert model_bytes > 400_000_000
    command = [sys.executable, "-c", MEASURE, str(tmp_path / "small"), str(tmp_path / "large")]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    peak, written = json.loads(done.stdout)
    assert model_bytes < peak < model_bytes + BESIDE_BYTES
    assert written < SIDE_BYTES
