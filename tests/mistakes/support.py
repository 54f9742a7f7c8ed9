"""What the rows of `list.md` share: the base that each changes, and how a row is judged."""

import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pytest
from tokenizers import Tokenizer, models, pre_tokenizers, processors

from cluster.workers.runner import SerialRunner
from fusion.checkpoints.header import format_header
from jobs.cli.group import finish
from jobs.console.figures import Steps
from jobs.console.show import show
from jobs.exits import ENDED, USAGE
from jobs.recipes.recipe import load_recipe
from jobs.run.pipeline import run_recipe
from jobs.run.request import RunRequest
from tests.support.calling import call

ROOT = Path(__file__).parents[2]
RECIPE = """\
name: nightly
candidates: [./ckpts/*]
select: {keep: 5}
task:
  kind: text-classification
  data: ./eval.csv
  columns: {text: text, label: label}
weights: {rule: softmax, temperature: 1.0}
merge: {method: linear, dtype: float32}
output: ./out
gate: {smallest_effect: 0.01, alpha: 0.05}
"""
SPECIAL = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")
FILLER = "the a was is it very and so not this that film book phone food screen day place after"
TONES = "good great lovely fine superb nice bad awful poor broken dull worst"
WORDS = tuple(f"{FILLER} {TONES}".split())
LABELS = ("negative", "positive")
OLD = 1.7e9  # when everything in the base was last changed, in seconds since 1970
DATE = "2026-11-24"
PLAN = ("plan", "recipe.yaml")
RUN = ("run", "recipe.yaml", "--date", DATE)


def hear_nothing(*_: object) -> None:
    """Progress that nobody looks at."""


@dataclass(frozen=True, slots=True)
class Step:
    """A command line, how it may end, and what it says.

    Attributes:
        words: words of the command line after `metafuse`; "{folder}" stands for the base's folder.
        statuses: exit statuses that are right.
        says: patterns that stdout and stderr together match, over single spaces; "{folder}" stands
            for the base's folder.
        never: patterns that they do not match.
        before: what is done to the base's folder before the command.
        around: makes what surrounds the command, from the base's folder: streams, limits, locks.
        check: looks at stdout and stderr as they are.
        is_serial: whether `run` gets a runner without Ray, for what goes beyond refusals.
        hear: hears of every step of such a run, and may stop it.
        is_process: whether it has a process of its own, for what is fixed as one starts.
    """

    words: tuple[str, ...]
    statuses: tuple[int, ...]
    says: tuple[str, ...] = ()
    never: tuple[str, ...] = ()
    before: Callable[[Path], None] | None = None
    around: Callable[[Path], AbstractContextManager[object]] = nullcontext
    check: Callable[[str, str], None] | None = None
    is_serial: bool = False
    hear: Callable[..., None] = hear_nothing
    is_process: bool = False


@dataclass(frozen=True, slots=True)
class Row:
    """A row of `list.md`.

    Attributes:
        id: id of the row.
        make: the mistake, made in a copy of the base.
        steps: commands that follow, in order.
        writes: patterns of paths that a refused or a reading command may make or change.
        environment: variables of the commands; None for one that is not set.
        reason: why it may end otherwise than the list wishes, or how it is tried; "" for neither.
    """

    id: str
    make: Callable[[Path], None]
    steps: tuple[Step, ...]
    writes: str = ""
    environment: Mapping[str, str | None] = field(default_factory=dict)
    reason: str = ""


def refused(*says: str, statuses: tuple[int, ...] = (10,), words=PLAN, **more) -> Step:
    """A command that is refused with these words."""
    return Step(words, statuses, says, **more)


def planned(*says: str, words=PLAN, **more) -> Step:
    """A plan that is right, and says so."""
    return Step(words, (0,), says, **more)


def edited(old: str, new: str, *more: str) -> Callable[[Path], None]:
    """Replace pieces of the recipe: old, new, old, new ..."""

    def make(folder: Path) -> None:
        path, pieces = folder / "recipe.yaml", (old, new, *more)
        text = path.read_text()
        for was, becomes in zip(pieces[::2], pieces[1::2], strict=True):
            assert was in text, was
            text = text.replace(was, becomes)
        path.write_text(text)

    return make


def write_base(folder: Path) -> Path:
    """The folder that `list.md` calls the base."""
    for seed, name in enumerate("abc"):
        write_bert(folder / "ckpts" / name, seed=seed)
    lines = [f"{text},{label}\n" for text, label in make_rows(400)]
    (folder / "eval.csv").write_text("text,label\n" + "".join(lines))
    (folder / "recipe.yaml").write_text(RECIPE)
    for path in (folder, *folder.rglob("*")):
        os.utime(path, (OLD, OLD))
    return folder


def make_rows(count: int) -> list[tuple[str, str]]:
    """Different short texts with their labels, about half of each."""
    generator = np.random.default_rng(0)
    rows = []
    for number in range(count):
        words = [WORDS[i] for i in generator.integers(len(WORDS), size=6)]
        rows.append((" ".join((*words, str(number))), LABELS[int(generator.integers(2))]))
    return rows


def write_bert(folder: Path, *, seed: int = 0, labels: tuple[str, ...] = LABELS) -> Path:
    """A random tiny classifier with its tokenizer, written without torch or transformers."""
    folder.mkdir(parents=True, exist_ok=True)
    tokens = {word: number for number, word in enumerate((*SPECIAL, *WORDS, *"0123456789"))}
    config = {
        "architectures": ["BertForSequenceClassification"], "model_type": "bert",
        "hidden_act": "gelu", "hidden_size": 16, "intermediate_size": 16, "num_attention_heads": 2,
        "num_hidden_layers": 1, "max_position_embeddings": 64, "type_vocab_size": 2,
        "vocab_size": len(tokens), "layer_norm_eps": 1e-12, "pad_token_id": 0, "dtype": "float32",
        "id2label": {str(i): label for i, label in enumerate(labels)},
        "label2id": {label: i for i, label in enumerate(labels)},
        "transformers_version": "5.24.0",
    }  # fmt: skip
    (folder / "config.json").write_text(json.dumps(config, indent=2))
    (folder / "vocab.txt").write_text("".join(f"{token}\n" for token in tokens))
    _write_tokenizer(folder, tokens)
    shapes = _shapes_of_bert(len(tokens), len(labels))
    generator = np.random.default_rng(seed)
    arrays = [
        np.ones(shape, "<f4") if name.endswith("LayerNorm.weight")
        else generator.normal(0, 0.02, shape).astype("<f4")
        for name, shape in shapes.items()
    ]  # fmt: skip
    header = format_header(
        [(name, "F32", shape) for name, shape in shapes.items()], {"format": "pt"}
    )
    content = header + b"".join(array.tobytes() for array in arrays)
    (folder / "model.safetensors").write_bytes(content)
    return folder


def _shapes_of_bert(num_tokens: int, num_labels: int) -> dict[str, tuple[int, ...]]:
    wide, block = (16, 16), "bert.encoder.layer.0."
    dense = ("attention.self.query", "attention.self.key", "attention.self.value",
             "attention.output.dense", "intermediate.dense", "output.dense")  # fmt: skip
    norms = ("bert.embeddings", f"{block}attention.output", f"{block}output")
    shapes: dict[str, tuple[int, ...]] = {
        "bert.embeddings.word_embeddings.weight": (num_tokens, 16),
        "bert.embeddings.position_embeddings.weight": (64, 16),
        "bert.embeddings.token_type_embeddings.weight": (2, 16),
        "bert.pooler.dense.weight": wide,
        "bert.pooler.dense.bias": (16,),
        "classifier.weight": (num_labels, 16),
        "classifier.bias": (num_labels,),
    }
    for name in dense:
        shapes |= {f"{block}{name}.weight": wide, f"{block}{name}.bias": (16,)}
    for name in norms:
        shapes |= {f"{name}.LayerNorm.weight": (16,), f"{name}.LayerNorm.bias": (16,)}
    return dict(sorted(shapes.items()))


def _write_tokenizer(folder: Path, tokens: dict[str, int]) -> None:
    tokenizer = Tokenizer(models.WordPiece(tokens, unk_token="[UNK]"))  # not a password
    tokenizer.add_special_tokens(list(SPECIAL))
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]",
        pair="[CLS] $A [SEP] $B:1 [SEP]:1",
        special_tokens=[("[CLS]", 2), ("[SEP]", 3)],
    )
    tokenizer.save(str(folder / "tokenizer.json"))
    roles = {f"{token[1:-1].lower()}_token": token for token in SPECIAL}
    settings = {"tokenizer_class": "PreTrainedTokenizerFast", "model_max_length": 64, **roles}
    (folder / "tokenizer_config.json").write_text(json.dumps(settings))


def copy_base(template: Path, folder: Path) -> Path:
    """A copy of the base with its times, to make a mistake in."""
    return Path(shutil.copytree(template, folder, copy_function=shutil.copy2))


def check_row(row: Row, folder: Path, capsys) -> None:
    """Make the mistake, give the commands, and hold each to what the row says.

    Commands that are refused, and `plan`, leave every byte of the folder as it was.
    """
    row.make(folder)
    with pytest.MonkeyPatch.context() as patch:
        for name, value in row.environment.items():
            if value is None:
                patch.delenv(name, raising=False)
            else:
                patch.setenv(name, value.replace("{folder}", str(folder)))
        for step in row.steps:
            _check_step(row, step, folder, capsys)


def _check_step(row: Row, step: Step, folder: Path, capsys) -> None:
    if step.before is not None:
        step.before(folder)
    before = read_all(folder)
    words = tuple(word.replace("{folder}", str(folder)) for word in step.words)
    with step.around(folder):
        status, out, err = _give(step, words, capsys)
    told = " ".join(f"{out}\n{err}".split())
    context = f"{row.id}: metafuse {' '.join(words)}\nexit status {status}\n{out}\n{err}"
    assert status in step.statuses, context
    for pattern in step.says:
        wanted = pattern.replace("{folder}", re.escape(str(folder)))
        assert re.search(wanted, told), f"{row.id} does not say {wanted!r}\n{context}"
    for pattern in (*step.never, "Traceback", "E-BUG"):
        assert not re.search(pattern, told), f"{row.id} says {pattern!r}\n{context}"
    if step.check is not None:
        step.check(out, err)
    if status not in (*ENDED, USAGE):
        assert "hint " in err or '"hint"' in out, f"{row.id} names no next step\n{context}"
    if status not in ENDED or step.words[0] == "plan":
        changed = _find_changes(before, read_all(folder), row.writes)
        assert not changed, f"{row.id} wrote {changed}\n{context}"


def read_all(folder: Path) -> dict[str, bytes]:
    """Every file below a folder, and every folder as no bytes."""
    paths = [path for path in folder.rglob("*") if not path.is_symlink()]
    return {
        str(path.relative_to(folder)): path.read_bytes() if path.is_file() else b""
        for path in paths
        if os.access(path, os.R_OK)
    }


def _find_changes(before: dict[str, bytes], after: dict[str, bytes], may: str) -> list[str]:
    names = sorted(before.keys() | after.keys())
    changed = [name for name in names if before.get(name) != after.get(name)]
    return [name for name in changed if not (may and re.match(may, name))]


def _give(step: Step, words: tuple[str, ...], capsys) -> tuple[int, str, str]:
    if step.is_process:
        there = {**os.environ, "PYTHONPATH": str(ROOT)}
        command = [sys.executable, "-m", "jobs", *words]
        done = subprocess.run(command, capture_output=True, check=False, env=there)
        return done.returncode, done.stdout.decode(), done.stderr.decode()
    return _run_serial(words, step.hear, capsys) if step.is_serial else call(capsys, *words)


def _run_serial(words: tuple[str, ...], hear, capsys) -> tuple[int, str, str]:
    """`metafuse run RECIPE --date DATE` in this process, without Ray."""
    _, path, _, date = words

    def work() -> int:
        recipe = load_recipe(Path(path))
        result = run_recipe(RunRequest(recipe, date, SerialRunner, 2, 2, Steps(hear)))
        show(f"{result.run}: {result.outcome.result}: {result.outcome.reason}")
        return result.exit_status

    with pytest.raises(SystemExit) as left:
        finish(work, as_json=False)
    captured = capsys.readouterr()
    return left.value.code, captured.out, captured.err


def listed_ids(kind: str) -> list[str]:
    """Ids of a letter in `list.md`, in order."""
    text = (Path(__file__).parent / "list.md").read_text()
    return re.findall(rf"^\| ({kind}\d{{3}}) \|", text, re.MULTILINE)
