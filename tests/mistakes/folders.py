"""Mistakes in the folders of candidates, F001 to F050 of the list, each made in the nightly folder.

What is called `b` or `c` here is `ckpts/b` or `ckpts/c`.
"""

import json
import shutil
import time
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np

from tests.mistakes.nightly import (
    NAMES,
    SIDE_FILES,
    age,
    load,
    make_config,
    make_tensors,
    make_words,
    save,
    write_model,
    write_tokenizer,
)

Make = Callable[[Path], None]
SINGLE, INDEX = "model.safetensors", "model.safetensors.index.json"
SHARDS = ("model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors")
POINTER = (
    f"version https://git-lfs.github.com/spec/v1\noid sha256:{'5e' * 32}\nsize 438000\n".encode()
)
# A pickle that writes the file "opened" when it is loaded.
TRAP = b"cbuiltins\nopen\n(S'opened'\nS'w'\ntR."
TENSOR = "bert.encoder.layer.1.output.dense.weight"


def recipe(old: str, new: str) -> Make:
    """Replace a piece of the recipe."""

    def make(folder: Path) -> None:
        path = folder / "recipe.yaml"
        assert old in path.read_text()
        path.write_text(path.read_text().replace(old, new))

    return make


def both(*makes: Make) -> Make:
    """One after the other."""

    def make(folder: Path) -> None:
        for each in makes:
            each(folder)

    return make


def files(name: str, contents: Mapping[str, bytes | str], *, without: tuple[str, ...] = ()) -> Make:
    """Put files below a candidate, and take others away."""

    def make(folder: Path) -> None:
        place = folder / "ckpts" / name
        for file in without:
            (place / file).unlink()
        for file, content in contents.items():
            path = place / file
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content.encode() if isinstance(content, str) else content)

    return make


def config(*names: str, **changes: object) -> Make:
    """Change keys of config.json; None takes a key away."""

    def make(folder: Path) -> None:
        for name in names:
            path = folder / "ckpts" / name / "config.json"
            table = {**json.loads(path.read_text()), **changes}
            path.write_text(json.dumps({k: v for k, v in table.items() if v is not None}))

    return make


def tensors(name: str, change: Callable[[dict[str, np.ndarray]], dict[str, np.ndarray]]) -> Make:
    """Save other tensors."""

    def make(folder: Path) -> None:
        path = folder / "ckpts" / name / SINGLE
        save(path, change(load(path)))

    return make


def instead(name: str, **changes: object) -> Make:
    """A candidate that is another model altogether, as `write_model` makes it."""

    def make(folder: Path) -> None:
        shutil.rmtree(folder / "ckpts" / name)
        write_model(folder / "ckpts" / name, **changes)

    return make


def pointers_for_tokenizers(folder: Path) -> None:
    for name in NAMES:
        (folder / "ckpts" / name / "vocab.txt").unlink()
        (folder / "ckpts" / name / "tokenizer.json").write_bytes(POINTER)


def cut_short(folder: Path) -> None:
    path = folder / "ckpts" / "b" / SINGLE
    path.write_bytes(path.read_bytes()[: int(0.6 * path.stat().st_size)])


def shards(name: str = "b", *, moved: str = "", extra: int = 0, keep_single: bool = False) -> Make:
    """Two shards with an index, in place of or beside the one file.

    Args:
        name: of the candidate.
        moved: a tensor that the index puts into the first shard, where it is not.
        extra: bytes too many in the index's total size.
        keep_single: leaves the one file where it is; the shards then have other values.
    """

    def make(folder: Path) -> None:
        place = folder / "ckpts" / name
        whole = make_tensors(7) if keep_single else load(place / SINGLE)
        order = sorted(whole)
        weight_map, half = {}, len(order) // 2
        for shard, part in zip(SHARDS, (order[:half], order[half:]), strict=True):
            save(place / shard, {key: whole[key] for key in part})
            weight_map |= dict.fromkeys(part, shard)
        if moved:
            weight_map[moved] = next(shard for shard in SHARDS if shard != weight_map[moved])
        size = sum(tensor.nbytes for tensor in whole.values()) + extra
        index = {"metadata": {"total_size": size}, "weight_map": weight_map}
        (place / INDEX).write_text(json.dumps(index))
        if not keep_single:
            (place / SINGLE).unlink()

    return make


def trainer_folder(folder: Path) -> None:
    run = folder / "run"
    for seed, step in enumerate((500, 1000, 1500)):
        write_model(run / f"checkpoint-{step}", seed=seed)
        for state in ("optimizer.pt", "scheduler.pt", "rng_state.pth", "training_args.bin"):
            (run / f"checkpoint-{step}" / state).write_bytes(TRAP)
        (run / f"checkpoint-{step}" / "trainer_state.json").write_text("{}")
    (run / "runs" / "Jun01").mkdir(parents=True)
    (run / "runs" / "Jun01" / "events.out.tfevents.1").write_bytes(b"\x18\0\0\0")
    shutil.rmtree(folder / "ckpts")
    recipe("./ckpts/*", "./run/*")(folder)
    recipe("softmax, temperature: 1.0", "uniform")(folder)


def pickles_only(folder: Path) -> None:
    for name in NAMES:
        (folder / "ckpts" / name / SINGLE).unlink()
        (folder / "ckpts" / name / "pytorch_model.bin").write_bytes(b"PK\x03\x04" + bytes(99))


def adapters(*names: str, hidden: int = 32) -> Make:
    """LoRA folders of a model called org/base-model, in place of whole ones."""

    def make(folder: Path) -> None:
        for seed, name in enumerate(names):
            place = folder / "ckpts" / name
            shutil.rmtree(place)
            place.mkdir()
            generator = np.random.default_rng(seed)
            stem = "base_model.model.bert.encoder.layer.0.attention.self.query"
            shapes = {f"{stem}.lora_A.weight": (4, hidden), f"{stem}.lora_B.weight": (hidden, 4)}
            factors = {
                key: generator.standard_normal(shape).astype(np.float32)
                for key, shape in shapes.items()
            }
            save(place / "adapter_model.safetensors", factors)
            settings = {
                "peft_type": "LORA",
                "r": 4,
                "lora_alpha": 8,
                "bias": "none",
                "target_modules": ["query"],
                "base_model_name_or_path": "org/base-model",
            }
            (place / "adapter_config.json").write_text(json.dumps(settings))

    return make


def wider(folder: Path, hidden: int = 48) -> None:
    """A base of another width."""
    config = {"hidden_size": hidden, "intermediate_size": hidden}
    write_model(folder / "base", tensors=make_tensors(0, hidden=hidden), **config)


def three_labels(folder: Path) -> None:
    whole = make_tensors(2)
    whole |= {
        "classifier.weight": np.zeros((3, 32), np.float32),
        "classifier.bias": np.zeros(3, np.float32),
    }
    names = ("negative", "neutral", "positive")
    labels = {"id2label": {str(i): n for i, n in enumerate(names)}, "num_labels": 3,
              "label2id": {n: i for i, n in enumerate(names)}}  # fmt: skip
    instead("c", tensors=whole, **labels)(folder)


def other_words(folder: Path) -> None:
    words = make_words()
    write_tokenizer(folder / "ckpts" / "c", [*words[:5], *reversed(words[5:])])


def added_words(folder: Path) -> None:
    instead("c", tensors=make_tensors(2, vocabulary=202), vocab_size=202)(folder)
    write_tokenizer(folder / "ckpts" / "c", [*make_words(), "[NEW1]", "[NEW2]"])


def one_nan(whole: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    whole[TENSOR][3, 4] = np.nan
    return whole


def strange_names(folder: Path) -> None:
    for old, new in zip(NAMES, ("seed 7", "b ", "best[1]"), strict=True):
        (folder / "ckpts" / old).rename(folder / "ckpts" / new)


def desktop_files(folder: Path) -> None:
    (folder / "ckpts" / ".DS_Store").write_bytes(b"\0\0\0\x01Bud1")
    double = b"\0\x05\x16\x07" + bytes(4092)
    (folder / "ckpts" / "a" / "._model.safetensors").write_bytes(double)
    place = folder / "ckpts" / ".ipynb_checkpoints"
    place.mkdir()
    (place / "config-checkpoint.json").write_text(json.dumps(make_config()))
    recipe("softmax, temperature: 1.0", "uniform")(folder)


def link(name: str, target: str) -> Make:
    """A link among the candidates."""
    return lambda folder: (folder / "ckpts" / name).symlink_to(target)


def hub_cache(pattern: str) -> Make:
    """Three repositories of a hub's cache, of links into their blobs."""

    def make(folder: Path) -> None:
        for name in NAMES:
            repository = folder / "hub" / f"models--org--m-{name}"
            snapshot = repository / "snapshots" / f"{name}0ff"
            (repository / "refs").mkdir(parents=True)
            (repository / "blobs").mkdir()
            snapshot.mkdir(parents=True)
            (repository / "refs" / "main").write_text(snapshot.name)
            for file in (SINGLE, "config.json", *SIDE_FILES):
                blob = f"{file}-of-{name}"
                (folder / "ckpts" / name / file).rename(repository / "blobs" / blob)
                (snapshot / file).symlink_to(f"../../blobs/{blob}")
        shutil.rmtree(folder / "ckpts")
        recipe("./ckpts/*", pattern)(folder)

    return make


def spoilt_json(folder: Path) -> None:
    path = folder / "ckpts" / "b" / "config.json"
    path.write_text(path.read_text().rstrip().removesuffix("}").rstrip() + ",\n}")


def other_family(folder: Path) -> None:
    name = "DistilBertForSequenceClassification"
    config(*NAMES, model_type="distilbert", architectures=[name])(folder)


def masked(folder: Path) -> None:
    for name in NAMES:
        tensors(name, lambda t: {k: v for k, v in t.items() if "classifier" not in k})(folder)
    config(*NAMES, architectures=["BertForMaskedLM"], id2label=None, label2id=None)(folder)


def deepspeed(folder: Path) -> None:
    files("c", {"global_step500/mp_rank_00_model_states.pt": TRAP, "latest": "global_step500",
                "zero_to_fp32.py": "open('opened', 'w')"}, without=(SINGLE,))(folder)  # fmt: skip


def one_level_deeper(folder: Path) -> None:
    place = folder / "ckpts" / "c"
    place.rename(folder / "moved")
    place.mkdir()
    (folder / "moved").rename(place / "c")
    (folder / "ckpts" / "c.zip").write_bytes(b"PK\x03\x04" + bytes(99))


def from_the_future(folder: Path) -> None:
    recipe("{keep: 5}", "{keep: 5, settle: 10m}")(folder)
    age(folder / "ckpts" / "c", time.time() + 2 * 86400)


def free_name(folder: Path) -> None:
    place = folder / "ckpts" / "c"
    (place / SINGLE).rename(place / "epoch3.safetensors")
