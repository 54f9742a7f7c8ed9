"""What people do to folders of candidates, F001 to F050 of `list.md`: each ends as it should."""

import shutil
from pathlib import Path

import numpy as np
import pytest

from tests.mistakes.folders import (
    INDEX,
    POINTER,
    SHARDS,
    SINGLE,
    TENSOR,
    TRAP,
    adapters,
    added_words,
    both,
    config,
    cut_short,
    deepspeed,
    desktop_files,
    files,
    free_name,
    from_the_future,
    hub_cache,
    instead,
    link,
    masked,
    one_level_deeper,
    one_nan,
    other_family,
    other_words,
    pickles_only,
    pointers_for_tokenizers,
    recipe,
    shards,
    spoilt_json,
    strange_names,
    tensors,
    three_labels,
    trainer_folder,
    wider,
)
from tests.mistakes.judging import RUN, Row, judge
from tests.mistakes.nightly import SIDE_FILES, load, make_tensors
from tests.mistakes.support import listed_ids

UNIFORM = recipe("softmax, temperature: 1.0", "uniform")
MERGE = ("merge", "recipe.yaml", "fused")
TWO = ("2 candidates", "use a", "use c")
NO_B = ("2 candidates", "use a", "use c", "skip b: ")
NO_C = ("2 candidates", "use a", "use b", "skip c: ")
ALL = ("3 candidates", "use a", "use b", "use c")


def copied(old: str, new: str):
    return lambda folder: shutil.copytree(folder / "ckpts" / old, folder / "ckpts" / new)


def renamed(name: str, old: str, new: str):
    place = f"ckpts/{name}"
    return lambda folder: (folder / place / old).rename(folder / place / new)


def fused_files(*names: str):
    """The fused model has these files beside its own."""

    def look(folder: Path) -> None:
        found = {path.name for path in (folder / "fused").iterdir()}
        own = {"README.md", "manifest.json", "mergekit_config.yml"}
        assert found - own == {*names, "config.json", SINGLE}, found

    return look


def finite(folder: Path) -> None:
    models = list((folder / "out").glob(f"runs/*/model-*/{SINGLE}"))
    assert len(models) == 1
    assert all(np.isfinite(tensor).all() for tensor in load(models[0]).values())


def is_the_mean(folder: Path) -> None:
    """Of three candidates of which the third is in F16: within two roundings of float32."""
    whole = [load(folder / "ckpts" / name / SINGLE) for name in "abc"]
    for key, found in load(folder / "fused" / SINGLE).items():
        terms = [one[key].astype(np.float64) for one in whole]
        exact, size = sum(terms) / 3, sum(map(np.abs, terms)) / 3
        assert found.dtype == np.float32
        assert (np.abs(found - exact) <= 4 * 2.0**-24 * size).all(), key


def half(whole):
    return {key: tensor.astype(np.float16) for key, tensor in whole.items()}


def wrapped(whole):
    return {f"module.{key}": tensor for key, tensor in whole.items()}


def with_positions(whole):
    return whole | {"bert.embeddings.position_ids": np.arange(64, dtype=np.int64)[None]}


def without_head(whole):
    return whole | {key: np.zeros_like(whole[key]) for key in whole if key.startswith("classif")}


ROWS = (
    Row("F001", files("b", {SINGLE: POINTER}), (*NO_B, SINGLE, "Git LFS pointer", "git lfs pull")),
    Row("F002", pointers_for_tokenizers, ("a/tokenizer.json is a Git LFS", "b/tokenizer.json is",
        "c/tokenizer.json is", "git lfs pull"), (13,)),
    Row("F003", cut_short, (*NO_B, f"b/{SINGLE}", "bytes", "copy it again")),
    Row("F004", files("b", {f".cache/huggingface/download/{SINGLE}.5e.incomplete": b"\x80" * 99},
        without=(SINGLE,)), (*NO_B, "no .safetensors file", ".incomplete", "unfinished")),
    Row("F005", files("b", {".model.safetensors.k3X9aQ": b"\0" * 1024}, without=(SINGLE,)),
        (*NO_B, "no .safetensors file", ".model.safetensors.k3X9aQ", "wait")),
    Row("F006", both(shards(), lambda f: (f / "ckpts/b" / SHARDS[1]).unlink()),
        (*NO_B, "1 of 2 shards missing", SHARDS[1], INDEX)),
    Row("F007", shards(moved="classifier.weight"), ("b", INDEX, "classifier.weight", SHARDS[0]),
        (11,), reason="an index that says what is not so is refused, not incomplete"),
    Row("F008", shards(extra=4096), ALL),
    Row("F009", shards(keep_single=True), (*NO_B, SINGLE, INDEX)),
    Row("F010", trainer_folder, ("runs (a folder without a model)",), words=MERGE,
        after=fused_files(*SIDE_FILES)),
    Row("F011", recipe("./ckpts/*", "./ckpts"), ALL,
        reason="a folder without a checkpoint of its own stands for those right below it"),
    Row("F012", pickles_only, ("a: pytorch_model.bin", "b: pytorch_model.bin",
        "c: pytorch_model.bin", "was not opened", "save_pretrained"), (11,)),
    Row("F013", both(UNIFORM, files("b", {"pytorch_model.bin": TRAP})), (),
        words=MERGE, after=fused_files(*SIDE_FILES)),
    Row("F014", files("b", {"model-q4_k_m.gguf": b"GGUF" + bytes(99)}, without=(SINGLE,)),
        (*NO_B, "model-q4_k_m.gguf", "GGUF")),
    Row("F015", files("b", {SINGLE: b"PK\x03\x04" + bytes(999)}),
        (f"b: {SINGLE} is a pickle or an archive", "not opened"), (11,),
        reason="a pickle is refused (11) and not skipped, unless select.on_refused says so"),
    Row("F016", adapters(*"abc"), ("adapter", "base:", "org/base-model"), (13,)),
    Row("F017", both(adapters(*"abc"), wider, recipe("candidates:", "base: ./base\ncandidates:")),
        ("a does not fit its base", "query", "[32, 32]", "[48, 48]"), (12,)),
    Row("F018", adapters("c"), (*NO_C, "adapter", "base:")),
    Row("F019", instead("c", tensors=make_tensors(2, hidden=48), hidden_size=48,
        intermediate_size=48), ("c", "classifier.weight is [2, 48] in c, [2, 32]"), (12,)),
    Row("F020", instead("c", tensors=make_tensors(2, layers=3), num_hidden_layers=3),
        ("bert.encoder.layer.2.output.dense.weight is only in c",), (12,)),
    Row("F021", config("c", id2label={"0": "positive", "1": "negative"}, label2id={"positive": 0,
        "negative": 1}), ('id2label.0 is "positive" in c, "negative" elsewhere',), (12,)),
    Row("F022", config("c", label2id={"positive": 0, "negative": 1}),
        (*NO_C, "config.json", "id2label", "label2id")),
    Row("F023", config("c", id2label={"0": "LABEL_0", "1": "LABEL_1"}, label2id={"LABEL_0": 0,
        "LABEL_1": 1}), ('id2label.0 is "LABEL_0" in c',), (12,)),
    Row("F024", three_labels, ("c", "3 labels", "2 labels"), (12,)),
    Row("F025", other_words, ("tokenizer of c", "id 5 is"), (12,)),
    Row("F026", files("c", {}, without=SIDE_FILES), ("c has no tokenizer",), (12,)),
    Row("F027", added_words, ("word_embeddings.weight is [202, 32] in c, [200, 32]",), (12,)),
    Row("F028", tensors("c", one_nan), ("c", TENSOR), (0, 4, 5), words=RUN, after=finite),
    Row("F029", both(UNIFORM, tensors("c", half)), (), words=MERGE, after=is_the_mean),
    Row("F030", tensors("c", without_head), ("0.6931",), (0, 4, 5), words=RUN, after=finite),
    Row("F031", copied("a", "a (1)"), (*ALL, "skip 'a (1)': ", "same bytes", "as a")),
    Row("F032", strange_names, ("3 candidates", "use 'b '", "use 'seed 7'", "use best[1]")),
    Row("F033", renamed("c", "config.json", "Config.json"),
        (*NO_C, "config.json", "Config.json")),
    Row("F034", both(desktop_files), (), words=MERGE, after=fused_files(*SIDE_FILES)),
    Row("F035", link("latest", "step-900"), (*ALL, "latest", "step-900", "leads nowhere")),
    Row("F036", link("latest", "c"), (*ALL, "skip latest: ", "as c")),
    Row("F037", hub_cache("./hub/models--org--m-*"), ("snapshots", "/snapshots/*"), (13,)),
    Row("F038", lambda f: (f / "ckpts/b" / SINGLE).chmod(0), ("b", SINGLE, "ermission"), (21,)),
    Row("F039", spoilt_json, (*NO_B, "b/config.json is not JSON", "line", "column")),
    Row("F040", config("b", num_hidden_layers=4), ("num_hidden_layers is 4 in b",), (12,),
        reason="what differs in config.json is 12; the same in all is 10, below"),
    Row("F041", masked, ("a, a bert", "b, a bert", "c, a bert", "BertForMaskedLM",
        "BertForSequenceClassification"), (10,)),
    Row("F042", other_family, ("distilbert", "bert, roberta, gpt2"), (10,)),
    Row("F043", both(files("b", {"modeling_x.py": "open('opened', 'w')"}), config("b", auto_map={
        "AutoModelForSequenceClassification": "modeling_x.MyModel"})), ("b", "auto_map"),
        (12,), reason="b alone differs in its config; code is never run"),
    Row("F044", files("b", {SINGLE: b""}), (*NO_B, f"b/{SINGLE}", "0 bytes")),
    Row("F045", tensors("c", wrapped), (*ALL, "module.")),
    Row("F046", tensors("c", with_positions), (*ALL, "position_ids")),
    Row("F047", deepspeed, (*NO_C, "no .safetensors file", "zero_to_fp32")),
    Row("F048", one_level_deeper, ("3 candidates", "c.zip (a file)"),
        reason="a folder without a checkpoint of its own stands for those right below it"),
    Row("F049", from_the_future, (*NO_C, "in the future", "wait 48h")),
    Row("F050", free_name, ALL, reason="one .safetensors file alone is the model"),
)  # fmt: skip


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.id)
def test_a_mistake_in_a_folder(row, nightly, capsys):
    judge(row, nightly, capsys)


def test_layers_that_all_candidates_lack_are_never_made_up(nightly, capsys):
    says = ("config.json names 4 layers, and the tensors have no layer 2",)
    judge(Row("F040", config(*"abc", num_hidden_layers=4), says, (10,)), nightly, capsys)


def test_every_folder_of_the_list_has_its_row():
    assert [row.id for row in ROWS] == listed_ids("F")
