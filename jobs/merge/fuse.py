"""From weights to a committed model: merge, side files, card, manifest."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from cluster.stores.store import Store
from cluster.workers.runner import Resources, Runner
from fusion.checkpoints.checkpoint import Checkpoint
from fusion.manifests.model import MergeFigures, ModelManifest, SourceEntry
from fusion.plans.adapter_request import adapter_request
from fusion.plans.health import HealthMode, ModelHealth
from fusion.plans.layout import plan_merge
from fusion.plans.plan import MergePlan, MergeRequest
from fusion.plans.requests import linear_request
from jobs.candidates.adapters import Base, describe_pins
from jobs.candidates.pin import pin_checkpoint
from jobs.merge.driver import merge_all
from jobs.merge.job import ANYWHERE, MergeJob, MergeOutcome, Progress
from jobs.merge.memory import fit_worker
from jobs.merge.model_files import make_side_files
from jobs.outputs.model import commit_model
from jobs.report.card import format_card


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
    sides = make_side_files(plan, config, with_tokenizer=with_tokenizer)
    if with_card:
        sides["README.md"] = format_card(manifest, title=title).encode()
    check()
    sha256 = commit_model(store, folder, side_files=sides, shards=outcome.files, manifest=manifest)
    base = Base(plan.request.base, {}) if plan.request.base is not None else None
    checkpoint, _ = pin_checkpoint(f"{uri}/{folder}", name=name, base=base)
    figures = _figures(plan, outcome, workers if threads > 1 else None)
    return FusedModel(checkpoint, folder, sha256, manifest, figures)


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
