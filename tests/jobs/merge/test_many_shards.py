"""Any number of shards: the files that are open depend on what one chunk needs."""

import json

import torch
from safetensors.torch import save_file

from cluster.workers.runner import ThreadRunner
from jobs.candidates.pin import pin_checkpoint
from jobs.models.tensor_reads import read_tensors
from jobs.models.unfilled import CPU
from tests.cluster.stores.test_open_readers import few_files
from tests.support.merging import load_merged, merge

NUM_SHARDS = 150


def write_split(folder, seed):
    """A checkpoint of one small tensor a shard."""
    folder.mkdir()
    index = {}
    for number in range(NUM_SHARDS):
        name, shard = f"layer.{number}.weight", f"model-{number + 1:05d}-of-{NUM_SHARDS:05d}"
        tensor = torch.full((4, 4), float(seed * NUM_SHARDS + number))
        save_file({name: tensor}, folder / f"{shard}.safetensors")
        index[name] = f"{shard}.safetensors"
    (folder / "model.safetensors.index.json").write_text(json.dumps({"weight_map": index}))
    return pin_checkpoint(str(folder), name=folder.name)[0]


def test_a_merge_and_an_evaluation_open_few_files_at_a_time(tmp_path):
    sources = [write_split(tmp_path / f"s{seed}", seed) for seed in range(3)]
    with few_files(100):
        plan, _ = merge(sources, [1, 1, 1], tmp_path / "out", runner=ThreadRunner(), workers=2)
        read = read_tensors(sources[1], CPU).tensors
    merged = load_merged(tmp_path / "out", plan)
    assert len(merged) == NUM_SHARDS
    assert float(merged["layer.7.weight"][0, 0]) == NUM_SHARDS + 7
    assert all(torch.equal(merged[name], read[name]) for name in merged)
