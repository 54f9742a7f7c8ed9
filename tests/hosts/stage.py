"""What runs on the hosts: candidates of some size, a recipe, runs of it and what they left."""

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterable
from contextlib import suppress
from copy import deepcopy
from pathlib import Path

import boto3
import torch

from cluster.errors import ClusterError
from cluster.stores.open_store import open_store
from fusion.canonical import from_json
from jobs.merge.ledger import UNITS_KEY, UnitRecord
from jobs.models.lstm import LSTMClassifier, save_lstm
from jobs.outputs.keys import POINTER_LOG
from jobs.outputs.pointer import read_pointer
from jobs.outputs.run_folder import RunFolder
from jobs.outputs.runs import read_outcome
from tests.hosts.machines import JOBS_ADDRESS, Machines, until
from tests.support.tiny_lstm import LABELS, train_base, write_data

BUCKET = "plain"
UNIT_BYTES = 64 << 20
EMBEDDING_SIZE = 32
NOISE = 0.35  # of the candidates around the good model
RECIPE = """\
name: {name}
candidates: [s3://plain/candidates/*]
task:
  kind: text-classification
  data: s3://plain/eval.parquet
  columns: {{text: text, label: label, id: id}}
output: {output}
baselines: []
resources:
  merge: {{workers: {workers}}}
"""
DATE = "2026-11-24"
# What a run has when its merge begins.
KEPT = ("plan.json", "recipe.yaml", "weights.json", "scores/")


def upload_inputs(folder: Path, *, num_units: int) -> None:
    """Two candidates around a good model whose merge has a number of units, and examples."""
    client = boto3.client("s3")
    write_data(folder / "eval.parquet", count=2400)
    client.upload_file(str(folder / "eval.parquet"), BUCKET, "eval.parquet")
    base, vocabulary = train_base(embedding_size=EMBEDDING_SIZE)
    network = grow(base, num_rows=num_units * UNIT_BYTES // (4 * EMBEDDING_SIZE) - 4096)
    generator = torch.Generator().manual_seed(1)
    for name, sign in (("a", 1.0), ("b", -1.0)):
        noisy = deepcopy(network)
        generator.manual_seed(1)
        with torch.no_grad():
            for parameter in noisy.parameters():
                parameter.add_(
                    torch.randn(parameter.shape, generator=generator), alpha=sign * NOISE
                )
        save_lstm(folder / name, noisy, vocabulary, LABELS)
        for path in sorted((folder / name).iterdir()):
            client.upload_file(str(path), BUCKET, f"candidates/{name}/{path.name}")
            path.unlink()


def grow(base: LSTMClassifier, *, num_rows: int) -> LSTMClassifier:
    """The same classifier with rows for words that never come."""
    network = LSTMClassifier(
        vocab_size=num_rows,
        embedding_size=EMBEDDING_SIZE,
        hidden_size=base.second.hidden_size,
        num_labels=len(LABELS),
    )
    tensors = dict(base.state_dict())
    rows = torch.zeros(num_rows, EMBEDDING_SIZE)
    rows[: base.embedding.num_embeddings] = tensors["embedding.weight"]
    network.load_state_dict({**tensors, "embedding.weight": rows})
    return network


class Run:
    """A run of the recipe into an output of its own, watched from outside through storage.

    `seen` has when the record of each unit was first seen; the clock is `time.monotonic`.
    """

    def __init__(self, machines: Machines, folder: Path, name: str, *, num_units: int) -> None:
        self.machines = machines
        self.name = name
        self.num_units = num_units
        self.output = f"s3://{BUCKET}/{name}"
        self.run = f"{name}-{DATE}"
        self.is_planned = False
        self.seen: dict[str, float] = {}
        self.submission: subprocess.Popen[bytes] | None = None
        self._recipe = folder / f"{name}.yaml"
        self._log = folder / f"{name}.log"
        self.write_recipe(workers=len(machines.workers))
        self._is_over = threading.Event()
        self._watcher: threading.Thread | None = None

    def write_recipe(self, *, workers: int) -> None:
        self.recipe_text = RECIPE.format(name=self.name, output=self.output, workers=workers)
        self._recipe.write_text(self.recipe_text)

    def start(self) -> None:
        """Submit it from beside the cluster and wait there; once more after that has ended."""
        with self._log.open("ab") as log:
            self.submission = subprocess.Popen(
                self.metafuse("submit", str(self._recipe), "--date", DATE),
                env=self.machines.outside,
                cwd=self._recipe.parent,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        if self._watcher is None:
            self._watcher = threading.Thread(target=self._watch, daemon=True)
            self._watcher.start()

    @staticmethod
    def metafuse(verb: str, *arguments: str) -> list[str]:
        """A command line that speaks to the cluster from outside."""
        return [sys.executable, "-m", "jobs", verb, *arguments, "--address", JOBS_ADDRESS]

    def rewind(self) -> None:
        """Go back to where candidates are scored and the merge is about to begin."""
        self.stop()
        store = open_store(self.output)
        for entry in list(store.list()):
            if not entry.key.startswith(tuple(f"runs/{self.run}/{name}" for name in KEPT)):
                store.delete(entry.key)
        self.is_planned = False
        self.seen = {}
        self._is_over.clear()
        self._log.write_text("")

    def stop(self) -> None:
        """End what is left of it and of the watching."""
        self._is_over.set()
        if self._watcher is not None:
            self._watcher.join()
            self._watcher = None
        if self.submission is not None and self.submission.poll() is None:
            self.submission.kill()
            self.submission.wait()
        if self.machines.find_driver() is not None:
            os.kill(self.machines.find_driver(), signal.SIGKILL)

    def wait_planned(self) -> None:
        self._until(lambda: self.is_planned, 180, "the merge begins")

    def wait_units(self, units: Iterable[str], seconds: float = 120) -> None:
        units = set(units)
        self._until(lambda: units <= self.seen.keys(), seconds, f"{sorted(units)} are done")

    def wait_first_unit(self) -> None:
        self._until(lambda: bool(self.seen), 120, "a unit is done")

    def wait_end(self, seconds: float = 180) -> int:
        """The exit status of the submission."""
        assert self.submission is not None
        return self.submission.wait(seconds)

    def log(self) -> str:
        return self._log.read_text()

    @property
    def units(self) -> list[str]:
        """All units, in the order of the plan."""
        return [f"00001-{number + 1:05d}" for number in range(self.num_units)]

    def missing(self) -> list[str]:
        """Units without a record, in the order of the plan."""
        return [unit for unit in self.units if unit not in self.seen]

    def records(self) -> list[UnitRecord]:
        store = open_store(self.output)
        entries = [e for e in store.list(f"runs/{self.run}/") if e.key.endswith(".json")]
        return [from_json(UnitRecord, store.read(e.key)) for e in entries if "/ledger-" in e.key]

    def _until(self, condition, seconds, what) -> None:
        def is_so():
            assert self.submission is None or self.submission.poll() is None, self.log()
            return condition()

        until(is_so, seconds, what)

    def _watch(self) -> None:
        while not self._is_over.wait(0.2):
            with suppress(ClusterError):  # a store that is being restarted
                self._look()

    def _look(self) -> None:
        for entry in open_store(self.output).list(f"runs/{self.run}/"):
            name = entry.key.rpartition("/")[2]
            if "/ledger-" in entry.key and name.endswith(".json"):
                self.seen.setdefault(name.removesuffix(".json"), time.monotonic())
            self.is_planned |= name == UNITS_KEY


def check_promoted_once(run: Run) -> None:
    """Promoted exactly once, nothing left behind."""
    store = open_store(run.output)
    pointer = read_pointer(store).pointer
    assert (pointer.run, pointer.previous, pointer.epoch) == (run.run, "", 1)
    assert list(store.list(POINTER_LOG)) == []
    outcome = read_outcome(RunFolder(store, run.run))
    assert (outcome.result, outcome.exit_status) == ("promoted", 0)
    assert {e.key.split("/")[1] for e in store.list("runs/")} == {run.run}
    assert list(store.list_uploads()) == []
