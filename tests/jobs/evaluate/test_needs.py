"""What `plan` states of an evaluation, against what one takes in a process of its own."""

import subprocess
import sys

import pytest
import torch
import transformers
from safetensors.torch import save_file

from fusion.checkpoints.checkpoint import Checkpoint, Pin, PinnedFile, TensorSpec
from jobs.candidates.pin import pin_checkpoint
from jobs.evaluate.needs import (
    EVALUATION_FLOOR,
    DataSize,
    evaluation_disk,
    evaluation_memory,
    measure_data,
)
from jobs.models.lengths import count_longest
from tests.support.tiny_models import make_tokenizer

SCORE = """
import sys
from cluster.workers.process_memory import peak_bytes
from jobs.candidates.pin import pin_checkpoint
from jobs.evaluate.score import ScoreJob, score_one
from jobs.tasks.contract import EvaluationTask
from jobs.tasks.data_files import find_data

folder, data, batch = sys.argv[1:]
shares = {"rank": 0.3, "select": 0.2, "gate": 0.4, "audit": 0.1}
columns = {"text": "text", "label": "label"}
task = EvaluationTask("text-classification", data, find_data(data).pin, columns, "", "", shares,
                      int(batch), None)
job = ScoreJob(pin_checkpoint(folder, name="m")[0], "rank", task, folder + "/records")
assert score_one(job).num_truncated == 0
print(peak_bytes())
"""


def write_model(folder, kind, config):
    config.architectures = [kind.__name__]
    with torch.device("meta"):
        model = kind(config)
    tensors = {name: torch.zeros(p.shape) for name, p in model.named_parameters()}
    config.save_pretrained(folder)
    make_tokenizer(config.model_type).save_pretrained(folder)
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})


def write_rows(path, words):
    # Numbers keep the texts from repeating each other.
    texts = [" ".join(f"{row * 7919 % 9973:04}" for _ in range(words)) for row in range(40)]
    path.write_text("".join(f'{{"text": "{t}", "label": {i % 2}}}\n' for i, t in enumerate(texts)))
    return texts


@pytest.mark.parametrize("kind", ["bert", pytest.param("gpt2", marks=pytest.mark.slow)])
@pytest.mark.long
def test_a_score_takes_what_is_stated_and_at_least_half_of_it(tmp_path, kind):
    if kind == "bert":
        config = transformers.BertConfig(vocab_size=60_000, num_hidden_layers=2)
        write_model(tmp_path / "m", transformers.BertForSequenceClassification, config)
    else:
        config = transformers.GPT2Config(
            vocab_size=50_000, n_layer=2, pad_token_id=0, bos_token_id=0, eos_token_id=0
        )
        write_model(tmp_path / "m", transformers.GPT2ForSequenceClassification, config)
    data = tmp_path / "eval.jsonl"
    texts = write_rows(data, words=60)
    checkpoint = pin_checkpoint(str(tmp_path / "m"), name="m")[0]
    assert checkpoint.shards[0].pin.size > 200_000_000
    longest = count_longest(checkpoint, [{"text": text} for text in texts], None)
    size = measure_data(texts, file_bytes=data.stat().st_size, batch_size=8, longest=longest)
    command = [sys.executable, "-c", SCORE, str(tmp_path / "m"), str(data), "8"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    peak, stated = int(done.stdout), evaluation_memory(checkpoint, size)
    assert peak < stated < 2 * peak


def test_half_precision_counts_as_what_it_becomes():
    specs = (
        TensorSpec("x", "BF16", (10, 10), "a", 0, 200),
        TensorSpec("y", "F64", (3,), "a", 200, 224),
        TensorSpec("z", "I64", (2,), "a", 224, 240),
    )
    checkpoint = Checkpoint("m", "m", (), specs, (PinnedFile("config.json", Pin(7, "e")),))
    needed = evaluation_memory(checkpoint, DataSize(memory_bytes=1000))
    assert needed == EVALUATION_FLOOR + 400 + 12 + 16 + 1000
    assert evaluation_disk(checkpoint) == 7


def test_a_batch_is_as_large_as_its_longest_text_and_the_data():
    texts = ["a" * 40, "b" * 400]
    assert measure_data(texts, file_bytes=0, batch_size=8, longest=102).batch_tokens == 2 * 102
    assert measure_data(texts, file_bytes=0, batch_size=1, longest=64).batch_tokens == 64
    assert measure_data((), file_bytes=5, batch_size=1, longest=0) == DataSize(5, 0)
