"""The weighted average of adapters of one base, as one adapter: ranks set side by side.

sum_i w_i s_i B_i A_i = B A with A the A_i on top of each other and B the w_i s_i B_i side by side,
so nothing is lost but one rounding of B; averages of A and of B would be something else.
"""

import json
import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace

from fusion.checkpoints.adapter import CODE, PREFIX
from fusion.checkpoints.checkpoint import (
    AdaptedTensor,
    Adapter,
    Checkpoint,
    TensorSpec,
    checkpoint_digest,
    model_tensors,
)
from fusion.dtypes import FLOATS, parse_dtype, promote
from fusion.errors import MismatchError
from fusion.plans.method_specs import CONCATENATE, COPY
from fusion.plans.plan import MergeRequest, TensorRequest
from fusion.plans.requests import check_weights
from fusion.plans.sources import SourceTensor, base_indices, find_source, with_bases
from fusion.plans.wish import MergeWish

ADAPTER_STEM = "adapter_model"
Member = tuple[int, AdaptedTensor]


def adapter_request(
    checkpoints: Sequence[Checkpoint], weights: Sequence[float], wish: MergeWish
) -> MergeRequest:
    """One adapter that adds what the weighted average of several adapters adds.

    Args:
        checkpoints: n adapters of one base.
        weights: n finite numbers whose sum is not 0; they are divided by their sum.
        wish: dtype of the output; None in it writes factors in float32 (float64 where one is).

    Raises:
        WeightError: number, value or sum of the weights.
        MismatchError: a checkpoint that is no adapter, or several bases.
    """
    check_weights(weights, len(checkpoints))
    adapters = check_one_base(checkpoints)
    wanted = parse_dtype(wish.dtype) if wish.dtype else None
    total = math.fsum(weights)
    shares = [weight / total for weight in weights]
    tensors: list[TensorRequest] = []
    for members in _members(checkpoints, adapters).values():
        tensors += _factors(members, shares, wanted)
    return MergeRequest(
        with_bases(checkpoints),
        (*tensors, *_saved(checkpoints, weights, wish)),
        tuple(map(float, weights)),
        stem=ADAPTER_STEM,
        method=wish.method,
    )


def check_one_base(checkpoints: Sequence[Checkpoint]) -> tuple[Adapter, ...]:
    """The adapters of checkpoints that all are adapters of the same bytes.

    Raises:
        MismatchError: a checkpoint is no adapter, or the bases differ.
    """
    check_bases(checkpoints)
    whole = [c.name for c in checkpoints if c.adapter is None]
    if whole:
        raise MismatchError(
            f"{', '.join(whole)} is a whole checkpoint, and one adapter is to be made of adapters. "
            "No tensor data was read.",
            "leave it out, or set merge.output: model",
            CODE,
        )
    return tuple(c.adapter for c in checkpoints if c.adapter is not None)


def check_bases(checkpoints: Sequence[Checkpoint]) -> None:
    """Refuse adapters whose bases are not the same bytes.

    Raises:
        MismatchError: names the bases.
    """
    adapters = [c.adapter for c in checkpoints if c.adapter is not None]
    bases = {checkpoint_digest(adapter.base): adapter.base for adapter in adapters}
    if len(bases) > 1:
        listed = ", ".join(f"{base.name} ({base.uri})" for base in bases.values())
        raise MismatchError(
            f"the adapters have {len(bases)} bases: {listed}. No tensor data was read.",
            "merge each adapter into its base first, or take those of one base",
            CODE,
        )


def format_adapter_config(checkpoints: Sequence[Checkpoint]) -> bytes:
    """adapter_config.json of the output of `adapter_request`: alpha is the rank, so scale is 1."""
    adapters = check_one_base(checkpoints)
    ranks = {
        members[0][1].module: sum(adapted.rank for _, adapted in members)
        for members in _members(checkpoints, adapters).values()
    }
    usual = Counter(ranks.values()).most_common(1)[0][0] if ranks else 1
    # PEFT takes the first pattern that is the end of a name: longer names go first.
    others = sorted((n for n in ranks if ranks[n] != usual), key=lambda n: (-len(n), n))
    pattern = {name: ranks[name] for name in others}
    modules: dict[str, None] = {}
    for adapter in adapters:
        listed = adapter.settings.get("modules_to_save")
        modules |= dict.fromkeys(map(str, listed if isinstance(listed, list) else ()))
    table = dict(adapters[0].settings) | {
        "r": usual, "lora_alpha": usual, "rank_pattern": pattern, "alpha_pattern": pattern,
        "use_rslora": False, "init_lora_weights": True, "target_modules": sorted(ranks),
        "modules_to_save": list(modules) or None, "layers_to_transform": None,
        "layers_pattern": None, "exclude_modules": None, "inference_mode": True,
    }  # fmt: skip
    return json.dumps(table, indent=2).encode() + b"\n"


def _members(
    checkpoints: Sequence[Checkpoint], adapters: Sequence[Adapter]
) -> Mapping[str, list[Member]]:
    """Who adapts which tensor of the model, in the model's order."""
    return {
        spec.name: members
        for spec in model_tensors(checkpoints[0])
        if (members := [(i, a.adapted[spec.name]) for i, a in enumerate(adapters)
                        if spec.name in a.adapted])
    }  # fmt: skip


def _factors(
    members: Sequence[Member], shares: Sequence[float], wanted: str | None
) -> list[TensorRequest]:
    first = members[0][1]
    kind = "lora_embedding_{}" if first.is_embedding else "lora_{}.weight"
    rank = sum(adapted.rank for _, adapted in members)
    a_columns = tuple(math.prod(adapted.a.shape) for _, adapted in members)
    b_columns = tuple(adapted.rank for _, adapted in members)
    scales = tuple(shares[index] * adapted.scale for index, adapted in members)
    specs_a = [(index, adapted.a) for index, adapted in members]
    specs_b = [(index, adapted.b) for index, adapted in members]
    stem = f"{PREFIX}{first.module}."
    return [
        _side_by_side(stem + kind.format("A"), (rank, first.a.shape[1]), specs_a, a_columns,
                      (1.0,) * len(members), wanted),
        _side_by_side(stem + kind.format("B"), (first.b.shape[0], rank), specs_b, b_columns,
                      scales, wanted),
    ]  # fmt: skip


def _side_by_side(
    name: str,
    shape: tuple[int, ...],
    specs: Sequence[tuple[int, TensorSpec]],
    columns: tuple[int, ...],
    weights: tuple[float, ...],
    wanted: str | None,
) -> TensorRequest:
    work = promote([*(spec.dtype for _, spec in specs), "F32"])
    return TensorRequest(
        name=name,
        shape=shape,
        dtype=wanted or work,
        work_dtype=work,
        method=CONCATENATE,
        weights=weights,
        normalize=False,
        sources=tuple(SourceTensor(i, s.shard, s.start, s.dtype) for i, s in specs),
        columns=columns,
    )


def _saved(
    checkpoints: Sequence[Checkpoint], weights: Sequence[float], wish: MergeWish
) -> list[TensorRequest]:
    """Averages of the tensors that some adapter saves; where one does not, the base's counts."""
    wanted = parse_dtype(wish.dtype) if wish.dtype else None
    places = with_bases(checkpoints)
    bases = base_indices(places)
    tables = [{spec.name: spec for spec in model_tensors(c)} for c in checkpoints]
    saved = [c.adapter.saved for c in checkpoints if c.adapter is not None]
    tensors = []
    for spec in tables[0].values():
        named = [table[spec.name] for table in saved if spec.name in table]
        if not named:
            continue
        sources = tuple(
            replace(find_source(places, index, table[spec.name], bases=bases), added=None)
            for index, table in enumerate(tables)
        )
        kinds = [source.dtype for source in sources]
        floating = spec.dtype in FLOATS
        output = (wanted or promote(kinds)) if floating else spec.dtype
        tensors.append(
            TensorRequest(
                name=named[0].name,
                shape=spec.shape,
                dtype=output,
                work_dtype=promote([*kinds, output]) if floating else spec.dtype,
                method=wish.method if floating else COPY,
                weights=tuple(map(float, weights)),
                normalize=True,
                sources=sources,
            )
        )
    return tensors
