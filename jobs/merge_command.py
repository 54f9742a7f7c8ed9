"""`metafuse merge`: weights that are known, no evaluation, no Ray."""

import time
from dataclasses import dataclass
from pathlib import Path

from cluster.runner import ThreadRunner
from cluster.store import open_store
from fusion.agreement import check_agree
from fusion.checkpoint import Checkpoint
from fusion.plan import MergePlan, linear_request, plan_merge
from fusion.weights import fixed_weights, uniform_weights
from jobs.console import Progress, show, show_json, warn
from jobs.discover import find_candidates, pin_checkpoint
from jobs.errors import RecipeError, TooFewError
from jobs.fusing import FusedModel, delete_folder, fuse
from jobs.mergekit import is_mergekit, mergekit_request, output_config, parse_mergekit
from jobs.recipe import parse_merge_block, parse_size, read_text


@dataclass(frozen=True, slots=True)
class Wanted:
    """What to merge, and the config.json to write (None: that of the first source)."""

    plan: MergePlan
    config: dict[str, object] | None


def run_merge(config: Path, out: str, *, workers: int, memory: str, as_json: bool) -> int:
    """Merge into `out`; the same command continues an interrupted merge."""
    started = time.monotonic()
    text = read_text(config)
    folder = str(config.absolute().parent)
    if is_mergekit(text, name=config.name):
        wanted = _from_mergekit(text, config.name, folder)
    else:
        wanted = _from_block(text, config.name, folder)
    progress = Progress(is_quiet=as_json)
    model = _merge(wanted, out, workers, parse_size(memory), progress)
    seconds = time.monotonic() - started
    figures = model.figures
    if as_json:
        show_json({"model": model.checkpoint.uri, "plan": wanted.plan.id, "seconds": seconds,
                   "read_bytes": figures.read_bytes, "written_bytes": figures.written_bytes,
                   "peak_bytes": figures.peak_bytes})  # fmt: skip
    else:
        show(
            f"{model.checkpoint.uri}  {figures.num_tensors} tensors, "
            f"{figures.read_bytes / 1e9:.3f} GB read, {figures.written_bytes / 1e9:.3f} GB "
            f"written in {seconds:.1f} s, peak "
            f"{figures.peak_bytes / 2**20:.0f} MiB"
        )
    return 0


def _merge(
    wanted: Wanted, out: str, workers: int, memory_bytes: int, progress: Progress
) -> FusedModel:
    parent, _, name = out.rstrip("/").rpartition("/")
    store = open_store(parent or ("/" if out.startswith("/") else "."))
    ledger = f"{name}.ledger-{wanted.plan.short}"
    try:
        model = fuse(
            wanted.plan,
            store,
            folder=name,
            ledger=ledger,
            name=name,
            title=name,
            runner=ThreadRunner(),
            workers=workers,
            memory_bytes=memory_bytes,
            threads=workers,
            with_sha256=store.is_remote,
            on_progress=lambda done, total, size: progress.say(
                "merge", done, total, f"{size / 1e9:.2f} GB"
            ),
            config=wanted.config,
        )
    finally:
        progress.close()
    delete_folder(store, ledger)
    return model


def _from_mergekit(text: str, name: str, folder: str) -> Wanted:
    document = parse_mergekit(text, name=name, folder=folder)
    for line in document.warnings:
        warn(line)
    checkpoints: list[Checkpoint] = []
    for model, uri in zip(document.models, document.uris, strict=True):
        checkpoint, _ = pin_checkpoint(open_store(uri).uri, name=model)
        checkpoints.append(checkpoint)
    request = mergekit_request(document, checkpoints)
    return Wanted(plan_merge(request), output_config(document, checkpoints, request))


def _from_block(text: str, name: str, folder: str) -> Wanted:
    block = parse_merge_block(text, name=name, folder=folder)
    found = find_candidates(block.candidates, settle_seconds=0, now=time.time())
    if found.skipped:
        entry = found.skipped[0]
        raise TooFewError(
            f"{entry.name} cannot be merged: {entry.code} {entry.reason}. Nothing was merged.",
            "mend it, or take it out of candidates",
        )
    candidates = found.candidates
    check_agree(candidates, cast=block.merge.dtype is not None, vocabularies=found.vocabularies)
    names = [candidate.name for candidate in candidates]
    if block.weights.rule == "fixed":
        weights = fixed_weights(names, block.weights.values)
    elif block.weights.rule == "uniform":
        weights = uniform_weights(len(names))
    else:
        raise RecipeError("weights.rule: softmax needs losses; use uniform or fixed")
    return Wanted(plan_merge(linear_request(candidates, weights, dtype=block.merge.dtype)), None)
