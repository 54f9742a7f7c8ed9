"""`metafuse merge`: weights that are known, no evaluation, no Ray."""

import importlib
import shlex
import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from cluster.errors import UnsupportedError
from cluster.stores.open_store import open_store
from cluster.workers.hands import Hands
from cluster.workers.process_memory import peak_bytes
from cluster.workers.threads import ThreadRunner
from fusion.checkpoints.agreement import check_agree
from fusion.checkpoints.checkpoint import Checkpoint
from fusion.checkpoints.names import align_names
from fusion.evidence.weights import fixed_weights, uniform_weights
from fusion.plans.adapter_request import check_bases
from fusion.plans.health import HealthMode
from fusion.plans.layout import SHARD_BYTES, plan_merge
from fusion.plans.plan import MergePlan, MergeRequest
from jobs.candidates.copies import drop_copies, find_copies
from jobs.candidates.cutting import unify_cutting
from jobs.candidates.doubts import describe_left_behind, find_doubts
from jobs.candidates.find import Found, find_candidates, pin_base
from jobs.candidates.pin import pin_checkpoint
from jobs.console.figures import list_some
from jobs.console.secret_texts import check_no_secrets
from jobs.console.show import Progress, note, show, show_json, warn
from jobs.console.sizes import parse_size
from jobs.errors import RecipeError, TooFewError, UsageError
from jobs.merge.claim import MergeOutput, claim_output, parse_output, release_output
from jobs.merge.fuse import Dress, FusedModel, Manner, Target, fuse, left_behind, request_wish
from jobs.mergekit.document import is_mergekit, parse_mergekit
from jobs.mergekit.flags import MergeOptions
from jobs.mergekit.request import check_sources, mergekit_request, output_config
from jobs.recipes.strict_yaml import read_text

WEIGHTS_LISTED = 8
DEFAULTS = MergeOptions()


@dataclass(frozen=True, slots=True)
class Wanted:
    """What to merge.

    Attributes:
        request: output tensors and their sources.
        config: config.json to write; None for that of the first source.
        weights: weights by candidate, where one set holds for all tensors; else empty.
        rule: how the weights came about, for people.
        health: which blocks of the tensors are summed for cosines and norms.
    """

    request: MergeRequest
    config: dict[str, object] | None
    weights: Mapping[str, float]
    rule: str
    health: HealthMode = "sampled"


def check_order(config: Path, out: str) -> None:
    """Refuse a folder where the document is asked and a document where the folder is.

    Raises:
        UsageError: shows the command with its words in the right order.
    """
    if config.is_dir() and Path(out).is_file():
        raise UsageError(
            f"{config} is a folder, and CONFIG is a file; nothing was read or written",
            f"metafuse merge {shlex.quote(out)} {shlex.quote(str(config))}",
        )


def run_merge(
    config: Path, out: str, *, memory: str, as_json: bool, options: MergeOptions = DEFAULTS
) -> int:
    """Merge into `out`; the same command continues an interrupted merge."""
    started = time.monotonic()
    check_order(config, out)
    output = parse_output(out, folder=str(Path.cwd()))
    memory_bytes = parse_size(memory)
    for line in options.warnings:
        warn(line)
    _check_device(options.device)
    _start_importing()
    wanted = _read(config, output)
    plan = plan_merge(wanted.request, shard_bytes=options.shard_bytes or SHARD_BYTES)
    line = describe_left_behind(left_behind(wanted.request))
    if line:
        warn(line)
    if wanted.rule and not as_json:
        note(f"weights  {wanted.rule}: {_listed(wanted.weights)}")
    model = None
    if claim_output(output, plan) is None:
        progress = Progress(is_quiet=as_json or options.is_quiet)
        model = _merge(plan, wanted, output, options, memory_bytes, progress)
    release_output(output, plan)
    _show(output, plan, wanted, model, time.monotonic() - started, as_json=as_json)
    return 0


def _start_importing() -> None:
    """Load torch beside reading headers: it takes about a second, and they wait for the store.

    The interpreter waits for the thread when it leaves: torch must not be torn down half loaded.
    """
    threading.Thread(target=importlib.import_module, args=("torch",)).start()


def _read(config: Path, output: MergeOutput) -> Wanted:
    text = read_text(config)
    check_no_secrets(text, name=config.name)
    folder = str(config.absolute().parent)
    if is_mergekit(text, name=config.name):
        return _from_mergekit(text, config.name, folder)
    return _from_block(text, config.name, folder, output)


def _merge(
    plan: MergePlan,
    wanted: Wanted,
    output: MergeOutput,
    options: MergeOptions,
    memory_bytes: int,
    progress: Progress,
) -> FusedModel:
    digest = options.digest or ("sha256" if output.store.is_remote else "crc64nvme")
    try:
        return fuse(
            plan,
            Target(output.store, output.name, output.ledger(plan.short), output.name, output.name),
            hands=Hands(ThreadRunner(), options.workers),
            manner=Manner(
                memory_bytes,
                threads=options.workers,
                with_sha256=digest == "sha256",
                health=options.health or wanted.health,
                device=options.device,
            ),
            dress=Dress(
                wanted.config,
                with_card=options.with_card,
                with_tokenizer=options.with_tokenizer,
            ),
            tell=progress.step("merge"),
        )
    finally:
        progress.close()


def _check_device(device: str) -> None:
    """Refuse a device that is not here.

    Raises:
        UnsupportedError: the device is not here.
    """
    if device == "cpu":
        return
    import torch

    if device.partition(":")[0] != "cuda":
        raise UnsupportedError(f"--device {device!r} is not offered; cpu and cuda are")
    if not torch.cuda.is_available():
        raise UnsupportedError(
            f"--device {device}: there is no CUDA device here. Nothing was read or written.",
            "leave the flag out: the arithmetic runs on the CPU",
        )


def _from_mergekit(text: str, name: str, folder: str) -> Wanted:
    document = parse_mergekit(text, name=name, folder=folder)
    for line in document.warnings:
        warn(line)
    checkpoints: list[Checkpoint] = []
    vocabularies = {}
    bases = {place: pin_base(place) for place in dict.fromkeys(document.bases) if place}
    places = zip(document.models, document.uris, document.bases, strict=True)
    for model, uri, base in places:
        checkpoint, vocabularies[model] = pin_checkpoint(
            open_store(uri).uri, name=model, base=bases.get(base)
        )
        if base and checkpoint.adapter is None:
            raise RecipeError(f"{model}: {uri} is no adapter. Nothing was merged.")
        checkpoints.append(checkpoint)
    check_bases(checkpoints)
    for copy, known in find_copies(checkpoints).items():
        warn(f"{copy} has the same bytes as {known}: both have the weight that they are given")
    checkpoints = [*align_names(unify_cutting(checkpoints))]
    harmless = check_sources(document, checkpoints, vocabularies)
    for line in (*harmless, *find_doubts(checkpoints, writes_copies=True)):
        warn(line)
    request = mergekit_request(document, checkpoints)
    return Wanted(request, output_config(document, checkpoints, request), {}, "")


def _from_block(text: str, name: str, folder: str, output: MergeOutput) -> Wanted:
    from jobs.recipes.recipe import parse_merge_block

    block = parse_merge_block(text, name=name, folder=folder)
    found = find_candidates(
        block.candidates, settle_seconds=0, now=time.time(), base=block.base, output=output.uri
    )
    if found.skipped:
        entry = found.skipped[0]
        raise TooFewError(
            f"{entry.name} cannot be merged: {entry.code} {entry.reason}. Nothing was merged.",
            f"{entry.hint or 'mend it'}, or take it out of candidates",
        )
    is_cast = block.merge.dtype is not None
    check_agree(found.candidates, cast=is_cast, vocabularies=found.vocabularies)
    candidates = _warn_of_copies(found, is_fixed=block.weights.rule == "fixed").candidates
    names = [candidate.name for candidate in candidates]
    if block.weights.rule == "fixed":
        weights, rule = fixed_weights(names, block.weights.values), "fixed"
    else:
        weights, rule = uniform_weights(len(names)), "uniform"
        if "weights" not in block.model_fields_set:
            rule = "uniform (the document gives no weights)"
    for line in (*find_doubts(candidates), *found.remarks):
        warn(line)
    merge = block.merge
    request = request_wish(candidates, weights, merge.wish)
    by_name = dict(zip(names, weights, strict=True))
    return Wanted(request, None, by_name, rule, merge.health)


def _warn_of_copies(found: Found, *, is_fixed: bool) -> Found:
    """The candidates, each once; weights that were given by name stay as they were meant."""
    without = drop_copies(found)
    for entry in without.skipped:
        warn(
            f"{entry.name} has {entry.code.rstrip(':')} {entry.reason.partition(',')[0]}: "
            + ("both keep the weights that they were given" if is_fixed else "it counts once")
        )
    return found if is_fixed else without


def _listed(weights: Mapping[str, float]) -> str:
    return list_some([f"{name} {weight:.4g}" for name, weight in weights.items()], WEIGHTS_LISTED)


def _show(
    output: MergeOutput,
    plan: MergePlan,
    wanted: Wanted,
    model: FusedModel | None,
    seconds: float,
    *,
    as_json: bool,
) -> None:
    """What was done; `model` is None where it was there already."""
    figures = model.figures if model else None
    # The workers are threads of this process, which also read headers and wrote side files.
    peak = max(figures.peak_bytes, peak_bytes()) if figures else 0
    summary = model.manifest.health.summary if model and model.manifest.health else None
    for line in summary.warnings if summary else ():
        warn(line)
    if as_json:
        show_json({
            "model": output.uri,
            "plan": plan.id,
            "seconds": seconds,
            "weights": dict(wanted.weights),
            "read_bytes": figures.read_bytes if figures else 0,
            "written_bytes": figures.written_bytes if figures else 0,
            "num_sources": figures.num_sources if figures else 0,
            "num_checked": figures.num_checked if figures else 0,
            "peak_bytes": peak,
            "norm_ratio": summary.norm_ratio if summary else None,
            "cosines": {c.name: c.cosine for c in summary.candidates} if summary else {},
        })  # fmt: skip
    elif figures is None:
        show(f"{output.uri}  this merge is there already, whole; nothing was written")
    else:
        note(figures.checks)
        show(
            f"{output.uri}  {figures.num_tensors} tensors, "
            f"{figures.read_bytes / 1e9:.3f} GB read, {figures.written_bytes / 1e9:.3f} GB "
            f"written in {seconds:.1f} s, peak "
            f"{peak / 2**20:.0f} MiB"
        )
