"""A mergekit document over pinned checkpoints: the same merge request that a recipe gives."""

import re
from collections.abc import Mapping, Sequence
from typing import Any

from fusion.checkpoints.agreement import (
    describe_mismatches,
    find_mismatches,
    refuse_mismatches,
)
from fusion.checkpoints.checkpoint import Checkpoint, TensorSpec, model_tensors
from fusion.checkpoints.spare import CONSTANT, find_embedding, find_spare
from fusion.dtypes import FLOATS, promote
from fusion.errors import MismatchError, WeightError
from fusion.plans.method_specs import COPY
from fusion.plans.plan import MergeRequest, TensorRequest
from fusion.plans.sources import SourceTensor, base_indices, find_source, with_bases
from jobs.errors import RecipeError
from jobs.mergekit.document import MergekitDocument

LAYER = re.compile(r"(?:^|\.)(?:layers|layer|h|blocks|block)\.(\d+)\.")
HEAD = "lm_head.weight"
# Config keys that models of one document may differ in: the output has those of the base, and the
# arithmetic inside the model is the same.
HARMLESS_HERE = ("bos_token_id", "eos_token_id", "max_position_embeddings")
TIED = "tie_word_embeddings"
# Kinds whose head may be left out though their config does not tie it: mergekit knows them so.
EMBEDDINGS = {
    "llama": "model.embed_tokens.weight", "mistral": "model.embed_tokens.weight",
    "qwen2": "model.embed_tokens.weight", "gpt2": "transformer.wte.weight",
}  # fmt: skip


def mergekit_request(document: MergekitDocument, checkpoints: Sequence[Checkpoint]) -> MergeRequest:
    """The request of a document over its pinned checkpoints, in the document's order.

    Raises:
        MismatchError: a tensor that is missing or has another shape somewhere.
        RecipeError: a weight that is missing.
        WeightError: weights that sum to 0 and are to be normalised.
    """
    tables = [_canonical_tensors(checkpoint) for checkpoint in checkpoints]
    places = with_bases(checkpoints)
    bases = base_indices(places)
    num_layers = 1 + max((_layer(name) for table in tables for name in table), default=0)
    tensors = []
    spare = {name for name, reason in find_spare(checkpoints).items() if reason == CONSTANT}
    for name in dict.fromkeys(n for table in tables for n in table if n not in spare):
        specs = [_find_tensor(name, table, c) for table, c in zip(tables, checkpoints, strict=True)]
        present = [spec for spec in specs if spec is not None]
        if len(present) != len(specs):
            absent = [c.name for c, spec in zip(checkpoints, specs, strict=True) if spec is None]
            raise MismatchError(
                f"{name} is missing in {', '.join(absent)}. No tensor data was read.",
                "",
                "E-TENSORS",
            )
        sources = tuple(find_source(places, i, s, bases=bases) for i, s in enumerate(present))
        tensors.append(_request_tensor(document, name, present, sources, num_layers, checkpoints))
    averaged = [tensor.weights for tensor in tensors if tensor.method != COPY]
    weights = averaged[0] if averaged else (1.0,) * len(checkpoints)
    donor = document.models.index(document.base_model) if document.base_model else 0
    return MergeRequest(places, tuple(tensors), weights, method=document.method, donor=donor)


def check_sources(
    document: MergekitDocument,
    checkpoints: Sequence[Checkpoint],
    vocabularies: Mapping[str, Mapping[str, int]],
) -> tuple[str, ...]:
    """Compare tokenizers and configs of a document's models; `mergekit_request` does the tensors.

    Returns:
        Differences that do no harm, for people.

    Raises:
        MismatchError: lists all differences that do harm.
    """
    found = [
        mismatch
        for mismatch in find_mismatches(checkpoints, cast=True, vocabularies=vocabularies)
        if mismatch.code in ("E-VOCABULARY", "E-CONFIG") and mismatch.key != TIED
    ]
    harmless = [mismatch for mismatch in found if mismatch.key in HARMLESS_HERE]
    if len(harmless) < len(found):
        refuse_mismatches(found, checkpoints)
    donor = document.base_model or document.models[0]
    return tuple(
        f"{text}; config.json of the output is that of {donor}"
        for _, text in describe_mismatches(harmless)
    )


def output_config(
    document: MergekitDocument, checkpoints: Sequence[Checkpoint], request: MergeRequest
) -> dict[str, object]:
    """config.json of the output: that of the base (else of the first), with what was written."""
    table = dict(checkpoints[request.donor].config)
    names = {tensor.name for tensor in request.tensors}
    kind = str(table.get("model_type"))
    if HEAD in names and (table.get(TIED) if kind in EMBEDDINGS else _is_tied(table)):
        table[TIED] = False
    return table


def _canonical_tensors(checkpoint: Checkpoint) -> dict[str, TensorSpec]:
    """Tensors by canonical name: GPT-2 ones get their `transformer.` prefix."""
    is_gpt2 = checkpoint.config.get("model_type") == "gpt2"
    named = {}
    for spec in model_tensors(checkpoint):
        bare = is_gpt2 and not spec.name.startswith(("transformer.", "lm_head.", "score."))
        named[f"transformer.{spec.name}" if bare else spec.name] = spec
    return named


def _find_tensor(
    name: str, table: Mapping[str, TensorSpec], checkpoint: Checkpoint
) -> TensorSpec | None:
    """A tensor by canonical name; a tied head is its embedding matrix."""
    if name != HEAD or name in table:
        return table.get(name)
    kind = str(checkpoint.config.get("model_type"))
    if kind in EMBEDDINGS:
        return table.get(EMBEDDINGS[kind])
    return find_embedding(tuple(table.values())) if _is_tied(checkpoint.config) else None


def _is_tied(config: Mapping[str, object]) -> bool:
    """Whether head and embedding are one matrix: the default of a config, which leaves it out."""
    inner = config.get("text_config")
    within = inner.get(TIED) if isinstance(inner, Mapping) else None
    return bool(config) and config.get(TIED, within) is not False


def _request_tensor(
    document: MergekitDocument,
    name: str,
    specs: Sequence[TensorSpec],
    sources: tuple[SourceTensor, ...],
    num_layers: int,
    checkpoints: Sequence[Checkpoint],
) -> TensorRequest:
    shapes = {spec.shape for spec in specs}
    if len(shapes) > 1:
        found = ", ".join(
            f"{list(spec.shape)} in {c.name}" for spec, c in zip(specs, checkpoints, strict=True)
        )
        raise MismatchError(
            f"{name} is {found}. No tensor data was read.", "leave the odd one out", "E-SHAPE"
        )
    kinds = [spec.dtype for spec in specs]
    if not set(kinds) <= set(FLOATS):
        if len(set(kinds)) > 1:
            raise MismatchError(f"{name} is {' and '.join(sorted(set(kinds)))}", "", "E-DTYPE")
        ones = (1.0,) * len(specs)
        return TensorRequest(
            name, specs[0].shape, kinds[0], kinds[0], COPY, ones, normalize=False, sources=sources
        )
    position = _position(name, num_layers)
    weights = tuple(
        mergekit_weight(document, index, name, position) for index in range(len(document.models))
    )
    normalize = bool(_value(document.shared.get("normalize", True), name, position))
    if normalize and abs(sum(weights)) < 1e-12:
        raise WeightError(
            f"{name}: the weights {list(weights)} sum to 0. Nothing was read.",
            "change a weight, or set normalize: false",
        )
    work = document.dtype or promote(kinds)
    return TensorRequest(
        name, specs[0].shape, document.out_dtype or work, work, document.method, weights,
        normalize=normalize, sources=sources,
    )  # fmt: skip


def mergekit_weight(document: MergekitDocument, index: int, name: str, position: float) -> float:
    """A model's own weight, else the shared one, at a tensor and its place in the stack."""
    for table in (document.parameters[index], document.shared):
        if "weight" in table:
            value = _value(table["weight"], name, position)
            if value is not None:
                return float(value)
    raise RecipeError(
        f"models.{index}: {document.models[index]} has no weight for {name}. Nothing was read.",
        "give it parameters: {weight: ...}",
    )


def _value(setting: Any, name: str, position: float) -> Any:
    """A scalar, gradient or list of filters at one tensor; None if no filter matches."""
    if isinstance(setting, dict):
        setting = [setting]
    if isinstance(setting, list) and setting and isinstance(setting[0], dict):
        for entry in setting:
            wanted = entry.get("filter")
            if wanted in (None, "*") or str(wanted) in name:
                return _value(entry.get("value"), name, position)
        return None
    if isinstance(setting, list):
        place = position * (len(setting) - 1)
        low = min(int(place), len(setting) - 1)
        high = min(low + 1, len(setting) - 1)
        share = place - low
        return (1 - share) * float(setting[low]) + share * float(setting[high])
    return setting


def _layer(name: str) -> int:
    match = LAYER.search(name)
    return int(match[1]) if match else 0


def _position(name: str, num_layers: int) -> float:
    """Where a layer lies in the stack, 0 to 1; tensors outside of layers count as 0."""
    match = LAYER.search(name)
    if match is None:
        return 0.0
    return int(match[1]) / (num_layers - 1) if num_layers > 1 else 1.0
