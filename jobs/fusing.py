"""From weights to a committed model: merge, side files, card, manifest."""

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import Literal

from cluster.errors import ClusterError, NotFoundError, PreconditionError, UnreachableError
from cluster.runner import Resources, Runner
from cluster.store import Store, open_store
from fusion.adapter_request import ADAPTER_STEM, adapter_request, format_adapter_config
from fusion.checkpoint import Checkpoint
from fusion.dtypes import TORCH_NAMES
from fusion.health import HealthMode, ModelHealth
from fusion.manifest import MergeFigures, ModelManifest, SourceEntry
from fusion.plan import MergePlan, MergeRequest, format_index, linear_request, plan_merge
from jobs.adapters import Base, describe_pins
from jobs.card import format_card
from jobs.changed import changed
from jobs.commit import commit_model
from jobs.discover import pin_checkpoint
from jobs.lease import Lease
from jobs.merge import ANYWHERE, MergeJob, MergeOutcome, Progress, merge_all
from jobs.merge_memory import fit_worker
from jobs.run_identity import read_outcome
from jobs.side_files import ADAPTER_CONFIG

# Side files that say how the model computes and generates; the others are the tokenizer's.
CONFIG_FILES = ("config.json", "generation_config.json", "preprocessor_config.json")


@dataclass(frozen=True, slots=True)
class FusedModel:
    """A committed model.

    Attributes:
        checkpoint: pinned, ready to be evaluated.
        folder: key of its folder in the output.
        manifest_sha256: of its manifest.
        manifest: what it says.
        figures: what the merge did.
    """

    checkpoint: Checkpoint
    folder: str
    manifest_sha256: str
    manifest: ModelManifest
    figures: MergeFigures


def plan_average(
    checkpoints: Sequence[Checkpoint],
    weights: Sequence[float],
    dtype: str | None,
    *,
    output: Literal["model", "adapter"] = "model",
) -> MergePlan:
    """The plan of the weighted average of checkpoints that agree; see `average_request`."""
    return plan_merge(average_request(checkpoints, weights, dtype, output=output))


def average_request(
    checkpoints: Sequence[Checkpoint],
    weights: Sequence[float],
    dtype: str | None,
    *,
    output: Literal["model", "adapter"] = "model",
) -> MergeRequest:
    """The weighted average of checkpoints that agree, as a model or as one adapter.

    Raises:
        MismatchError: an adapter is wanted, and not all checkpoints are adapters of one base.
    """
    make = adapter_request if output == "adapter" else linear_request
    return make(checkpoints, weights, dtype=dtype)


def fuse(
    plan: MergePlan,
    store: Store,
    *,
    folder: str,
    ledger: str,
    name: str,
    title: str,
    runner: Runner,
    workers: int,
    memory_bytes: int,
    threads: int = 1,
    resources: Resources = ANYWHERE,
    with_sha256: bool = True,
    health: HealthMode = "sampled",
    on_progress: Progress | None = None,
    config: Mapping[str, object] | None = None,
    device: str = "cpu",
    with_card: bool = True,
    with_tokenizer: bool = True,
    check: Callable[[], None] = lambda: None,
) -> FusedModel:
    """Merge, complete and commit; safe to repeat after any crash.

    Args:
        plan: what to merge.
        store: of the output.
        folder: key of the model's folder.
        ledger: key of the folder of unit records.
        name: what the model is called in tables.
        title: of its card.
        runner: where workers live.
        workers: how many.
        memory_bytes: of one worker's process.
        threads: workers that share one process.
        resources: where workers may be.
        with_sha256: whether units get a sha256 beside their CRC.
        health: which blocks of the tensors are summed for cosines and norms.
        on_progress: units done, units, figures.
        config: config.json of the output; None takes that of the first source.
        device: where the arithmetic runs.
        with_card: whether README.md is written.
        with_tokenizer: whether the tokenizer files of the first source are copied.
        check: raises if this driver may no longer write.
    """
    uri = store.uri
    memory = fit_worker(plan, uri, memory_bytes, threads=threads)
    job = MergeJob(
        plan, uri, folder, ledger, memory, with_sha256=with_sha256, device=device, health=health
    )
    outcome = merge_all(job, runner=runner, workers=workers, resources=resources,
                        on_progress=on_progress, check=check)  # fmt: skip
    manifest = _describe(plan, outcome.health)
    sides = _make_side_files(plan, config, with_tokenizer=with_tokenizer)
    if with_card:
        sides["README.md"] = format_card(manifest, title=title).encode()
    check()
    sha256 = commit_model(store, folder, side_files=sides, shards=outcome.files, manifest=manifest)
    base = Base(plan.request.base, {}) if plan.request.base is not None else None
    checkpoint, _ = pin_checkpoint(f"{uri}/{folder}", name=name, base=base)
    figures = _figures(plan, outcome, workers if threads > 1 else None)
    return FusedModel(checkpoint, folder, sha256, manifest, figures)


def _make_side_files(
    plan: MergePlan, config: Mapping[str, object] | None, *, with_tokenizer: bool
) -> dict[str, bytes]:
    request = plan.request
    if request.stem == ADAPTER_STEM:
        return {ADAPTER_CONFIG: format_adapter_config(request.candidates)}
    first = request.checkpoints[0]
    found = read_side_files(first.adapter.base if first.adapter is not None else first)
    sides = {k: data for k, data in found.items() if with_tokenizer or k in CONFIG_FILES}
    sides["config.json"] = format_config(plan, config)
    if len(plan.shards) > 1:
        sides["model.safetensors.index.json"] = format_index(plan)
    return sides


def delete_baselines(store: Store, run: str) -> None:
    """Remove the models that a run made for comparison only."""
    for entry in list(store.list(f"runs/{run}/baseline-")):
        store.delete(entry.key)


@contextmanager
def nothing_late(store: Store, lease: Lease, run: str) -> Iterator[None]:
    """Whoever fails after another driver has finished the run leaves no baseline behind in it.

    Raises:
        LockedError: in place of the failure, as the lease is another driver's.
    """
    try:
        yield
    except Exception:
        with suppress(ClusterError):
            if read_outcome(store, run) is not None:
                delete_baselines(store, run)
            lease.confirm()
        raise


def read_side_files(checkpoint: Checkpoint) -> Mapping[str, bytes]:
    """Pinned side files by name.

    Raises:
        SourceChangedError: one is no longer the pinned one.
    """
    store = open_store(checkpoint.uri)
    found = {}
    for file in checkpoint.side_files:
        try:
            content = store.read(file.name, if_match=file.pin.etag, version=file.pin.version)
        except (PreconditionError, NotFoundError):
            raise changed(store, file.name, file.pin) from None
        if len(content) != file.pin.size:
            raise UnreachableError(
                f"{checkpoint.uri}/{file.name}: {len(content):,} of {file.pin.size:,} bytes "
                "arrived. Nothing was published.",
                "run the same command again",
            )
        found[file.name] = content
    return found


def format_config(plan: MergePlan, config: Mapping[str, object] | None) -> bytes:
    """config.json of the output: that of the first source, with the dtype that was written."""
    table = dict(plan.request.checkpoints[0].config if config is None else config)
    dtypes = {t.dtype for t in plan.request.tensors if t.method != "copy"}
    for key in ("dtype", "torch_dtype"):
        if key in table and len(dtypes) == 1:
            table[key] = TORCH_NAMES[next(iter(dtypes))]
    return json.dumps(table, indent=2, sort_keys=True).encode() + b"\n"


def _describe(plan: MergePlan, health: ModelHealth | None) -> ModelManifest:
    request = plan.request
    return ModelManifest(
        plan=plan.id,
        method="linear",
        files=(),
        sources=tuple(
            _describe_source(checkpoint, weight)
            for checkpoint, weight in zip(request.candidates, request.weights, strict=True)
        ),
        base=_describe_source(request.base, 1.0) if request.base is not None else None,
        health=health,
    )


def _describe_source(checkpoint: Checkpoint, weight: float) -> SourceEntry:
    return SourceEntry(checkpoint.name, checkpoint.uri, weight, describe_pins(checkpoint))


def _figures(plan: MergePlan, outcome: MergeOutcome, threads: int | None) -> MergeFigures:
    dtypes = sorted({t.dtype for t in plan.request.tensors if t.method != "copy"})
    return MergeFigures(
        method="linear",
        dtype=", ".join(dtypes),
        plan=plan.id,
        num_tensors=len(plan.request.tensors),
        num_units=outcome.num_units,
        read_bytes=outcome.read_bytes,
        written_bytes=outcome.written_bytes,
        seconds=outcome.seconds,
        # Of workers that are processes, only those that the cluster had room for have worked.
        workers=threads or outcome.num_workers,
        peak_bytes=outcome.peak_bytes,
        num_retried=outcome.num_retried,
        hosts=outcome.hosts,
    )
