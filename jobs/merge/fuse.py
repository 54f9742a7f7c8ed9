"""From a merge plan to a committed model: merge, dress, commit."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from cluster.stores.store import Store
from cluster.workers.hands import Hands
from cluster.workers.patience import PATIENCE, Patience
from fusion.checkpoints.checkpoint import Checkpoint, LeftBehind
from fusion.manifests.model import MergeFigures, ModelManifest, SourceEntry
from fusion.plans.adapter_request import ADAPTER_STEM, adapter_request
from fusion.plans.health import HealthMode, ModelHealth
from fusion.plans.layout import plan_merge
from fusion.plans.method_specs import COPY
from fusion.plans.plan import MergePlan, MergeRequest
from fusion.plans.requests import model_request
from fusion.plans.wish import MergeWish
from jobs.candidates.adapters import Base, describe_pins
from jobs.candidates.pin import pin_checkpoint
from jobs.console.figures import Tell, tell_nobody
from jobs.merge.driver import merge_all
from jobs.merge.job import MergeJob, MergeOutcome
from jobs.merge.large_files import copy_files
from jobs.merge.memory import fit_worker
from jobs.merge.model_files import find_large_files, make_side_files
from jobs.outputs.model import commit_model
from jobs.report.card import format_card


@dataclass(frozen=True, slots=True)
class FusedModel:
    """A committed model.

    Attributes:
        checkpoint: pinned checkpoint of the model, ready to be evaluated.
        folder: key of the model's folder in the output.
        manifest_sha256: sha256 of the model's manifest.
        manifest: content of the model's manifest.
        figures: figures of the merge.
    """

    checkpoint: Checkpoint
    folder: str
    manifest_sha256: str
    manifest: ModelManifest
    figures: MergeFigures


@dataclass(frozen=True, slots=True)
class Target:
    """Where a merge goes, and what it is called there.

    Attributes:
        store: store of the output, fenced where a lease is held.
        folder: key of the model's folder.
        ledger: key of the folder of unit records.
        name: what the model is called in tables.
        title: title of the model's card.
    """

    store: Store
    folder: str
    ledger: str
    name: str
    title: str


@dataclass(frozen=True, slots=True)
class Manner:
    """How a merge is carried out; no byte of a tensor depends on it.

    Attributes:
        memory_bytes: bytes of memory of one worker's process.
        threads: number of workers that share one process.
        with_sha256: whether units get a sha256 beside their CRC.
        health: which blocks of the tensors are summed for cosines and norms.
        device: device of the arithmetic: "cpu" or "cuda".
        patience: how long to wait for a store that is away.
    """

    memory_bytes: int
    threads: int = 1
    with_sha256: bool = True
    health: HealthMode = "sampled"
    device: str = "cpu"
    patience: Patience = PATIENCE


@dataclass(frozen=True, slots=True)
class Dress:
    """What stands beside the tensors.

    Attributes:
        config: config.json of the output; None for that of the donor.
        with_card: whether README.md is written.
        with_tokenizer: whether the tokenizer files of the donor are copied.
    """

    config: Mapping[str, object] | None = None
    with_card: bool = True
    with_tokenizer: bool = True


def plan_wish(
    checkpoints: Sequence[Checkpoint], weights: Sequence[float], wish: MergeWish
) -> MergePlan:
    """The plan of a merge of checkpoints that agree; see `request_wish`."""
    return plan_merge(request_wish(checkpoints, weights, wish))


def request_wish(
    checkpoints: Sequence[Checkpoint], weights: Sequence[float], wish: MergeWish
) -> MergeRequest:
    """A merge of checkpoints that agree, as a model or as one adapter.

    Raises:
        MismatchError: an adapter is wanted, and not all checkpoints are adapters of one base.
        MethodError: method or parameters that do not exist.
    """
    make = adapter_request if wish.output == "adapter" else model_request
    return make(checkpoints, weights, wish)


def left_behind(request: MergeRequest) -> tuple[LeftBehind, ...]:
    """Files of the donor that do not go with the model; () for an adapter, which has none of it."""
    return () if request.stem == ADAPTER_STEM else request.giver.left_behind


def fuse(
    plan: MergePlan,
    target: Target,
    *,
    hands: Hands,
    manner: Manner,
    dress: Dress | None = None,
    tell: Tell = tell_nobody,
) -> FusedModel:
    """Merge, dress and commit; safe to repeat after any crash.

    Args:
        plan: what to merge.
        target: where the model goes, and what it is called there.
        hands: workers that compute.
        manner: how the merge is carried out.
        dress: what stands beside the tensors; None for a card, and all files of the donor.
        tell: called with (units done, units, figures).
    """
    outcome = _merge(plan, target, hands, manner, tell)
    manifest = _describe(plan, outcome.health)
    sides = _dress(plan, manifest, target.title, dress or Dress())
    threads = hands.workers if manner.threads > 1 else None
    large = find_large_files(plan, with_tokenizer=(dress or Dress()).with_tokenizer)
    copies = copy_files(plan.request.giver, large, target.store, folder=target.folder)
    outcome = replace(outcome, files=(*outcome.files, *copies))
    return _commit(plan, target, sides, manifest, _figures(plan, outcome, threads), outcome)


def _merge(
    plan: MergePlan, target: Target, hands: Hands, manner: Manner, tell: Tell
) -> MergeOutcome:
    uri = target.store.uri
    memory = fit_worker(plan, uri, manner.memory_bytes, threads=manner.threads)
    job = MergeJob(
        plan,
        uri,
        target.folder,
        target.ledger,
        memory,
        with_sha256=manner.with_sha256,
        device=manner.device,
        health=manner.health,
        patience=manner.patience,
    )
    return merge_all(job, hands, store=target.store, tell=tell)


def _dress(
    plan: MergePlan, manifest: ModelManifest, title: str, dress: Dress
) -> Mapping[str, bytes]:
    sides = make_side_files(plan, dress.config, with_tokenizer=dress.with_tokenizer)
    if dress.with_card:
        sides["README.md"] = format_card(manifest, title=title).encode()
    return sides


def _commit(
    plan: MergePlan,
    target: Target,
    sides: Mapping[str, bytes],
    manifest: ModelManifest,
    figures: MergeFigures,
    outcome: MergeOutcome,
) -> FusedModel:
    store, folder = target.store, target.folder
    sha256 = commit_model(store, folder, side_files=sides, shards=outcome.files, manifest=manifest)
    base = Base(plan.request.base, {}) if plan.request.base is not None else None
    checkpoint, _ = pin_checkpoint(f"{store.uri}/{folder}", name=target.name, base=base)
    return FusedModel(checkpoint, folder, sha256, manifest, figures)


def _describe(plan: MergePlan, health: ModelHealth | None) -> ModelManifest:
    request = plan.request
    return ModelManifest(
        plan=plan.id,
        method=request.method,
        files=(),
        sources=tuple(
            _describe_source(checkpoint, weight)
            for checkpoint, weight in zip(request.candidates, request.weights, strict=True)
        ),
        base=_describe_source(request.base, 1.0) if request.base is not None else None,
        notes=tuple(f"{entry.name}: {entry.reason}" for entry in left_behind(request)),
        health=health,
    )


def _describe_source(checkpoint: Checkpoint, weight: float) -> SourceEntry:
    return SourceEntry(checkpoint.name, checkpoint.uri, weight, describe_pins(checkpoint))


def _figures(plan: MergePlan, outcome: MergeOutcome, threads: int | None) -> MergeFigures:
    dtypes = sorted({t.dtype for t in plan.request.tensors if t.method != COPY})
    return MergeFigures(
        method=plan.request.method,
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
        num_checked=outcome.num_checked,
        num_sources=outcome.num_checked + outcome.num_unchecked,
    )
