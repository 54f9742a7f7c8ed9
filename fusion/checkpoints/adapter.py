"""LoRA adapters in PEFT's format: which tensors of a base they change, and by what.

An adapted tensor is W + scale * B A with A [rank, inputs] and B [outputs, rank]; the product is
transposed where the base keeps [inputs, outputs] (GPT-2's Conv1D, embeddings). scale is alpha/rank,
with `use_rslora` alpha/sqrt(rank). Nothing here reads a tensor.
Source: https://huggingface.co/docs/peft/developer_guides/lora
"""

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from fusion.checkpoints.checkpoint import AdaptedTensor, Adapter, Checkpoint, TensorSpec
from fusion.checkpoints.own_heads import OwnHead, find_own_head, find_target, is_head, is_own
from fusion.dtypes import FLOATS
from fusion.errors import MismatchError

PREFIX = "base_model.model."
FACTORS = re.compile(r"(?P<module>.+)\.lora_(?P<embedding>embedding_)?(?P<factor>[AB])(\.weight)?")
# GPT-2 and its kin keep these layers as [inputs, outputs].
CONV1D_KINDS = ("gpt2", "openai-gpt", "decision_transformer", "imagegpt")
CONV1D_LAYERS = ("c_attn", "q_attn", "c_proj", "c_fc")
# Settings that do not change what an adapter adds, whatever their value.
HARMLESS = frozenset({
    "alpha_pattern", "auto_mapping", "base_model_name_or_path", "bias", "corda_config",
    "ensure_weight_tying", "eva_config", "exclude_modules", "fan_in_fan_out", "inference_mode",
    "init_lora_weights", "layers_pattern", "layers_to_transform", "loftq_config", "lora_alpha",
    "lora_dropout", "megatron_config", "megatron_core", "modules_to_save", "peft_type",
    "peft_version", "qalora_group_size", "r", "rank_pattern", "revision", "runtime_config",
    "target_modules", "task_type", "use_rslora",
})  # fmt: skip
# Starts of training that leave the base as it is; others move a part of it into the adapter.
PLAIN_STARTS = (None, True, False, "gaussian", "eva", "orthogonal")
# Patterns are regular expressions of a stranger: those that could take for ever are not tried.
MAX_PATTERN = 512
MAX_REPEATS = 2
CODE = "E-ADAPTER"
MERGED = "merge it into its base with PEFT (merge_and_unload) and give the whole checkpoint"


@dataclass(frozen=True, slots=True)
class Scaling:
    """Ranks and alphas of an adapter, by module.

    Attributes:
        rank: rank of modules that no pattern in `ranks` names.
        alpha: alpha of modules that no pattern in `alphas` names.
        ranks: rank by pattern, in the order of the file; the first pattern that fits a module
            counts.
        alphas: alpha by pattern, in the order of the file; the first pattern that fits a module
            counts.
        is_rank_stabilised: whether alpha is divided by the square root of the rank, not by the
            rank.
    """

    rank: int
    alpha: float
    ranks: Mapping[str, int]
    alphas: Mapping[str, float]
    is_rank_stabilised: bool

    def rank_of(self, module: str) -> int:
        """Of one module."""
        return int(_by_pattern(self.ranks, module, self.rank))

    def scale_of(self, module: str) -> float:
        """What the product of one module is multiplied by."""
        rank, alpha = self.rank_of(module), _by_pattern(self.alphas, module, self.alpha)
        return alpha / (math.sqrt(rank) if self.is_rank_stabilised else rank)


def parse_adapter(
    settings: Mapping[str, object], tensors: Sequence[TensorSpec], base: Checkpoint, *, name: str
) -> Adapter:
    """What an adapter changes of its base.

    Args:
        settings: content of adapter_config.json.
        tensors: tensors of adapter_model.safetensors.
        base: the whole checkpoint that the adapter changes.
        name: name of the adapter, for messages.

    Raises:
        MismatchError: a kind of adapter that is not offered, or one that does not fit the base;
            all that does not fit is in the message.
    """
    scaling = parse_settings(settings, name=name)
    pairs, saved_specs, problems = _sort_tensors(tensors)
    there = {spec.name: spec for spec in base.tensors}
    saved, added, misplaced = _place_saved(saved_specs, there, settings, base)
    problems += misplaced
    adapted: dict[str, AdaptedTensor] = {}
    for module, factors in pairs.items():
        found = _adapt(module, factors, there, scaling, settings, base)
        if isinstance(found, str):
            problems.append(found)
        else:
            adapted[found[0]] = found[1]
    if not adapted and not saved and not added and not problems:
        problems.append("it holds no factor and no saved module")
    if problems:
        raise _misfit(problems, base, name)
    if added:
        modules = [*pairs, *saved_specs]
        rest = there.keys() - saved.keys()
        own = find_own_head(added, modules, rest, settings=settings, config=base.config)
        return _with_own_head(Adapter(base, adapted, saved, settings), own)
    _check_tied(adapted, base, name)
    return Adapter(base, adapted, saved, settings)


def parse_settings(settings: Mapping[str, object], *, name: str) -> Scaling:
    """Ranks and alphas, after everything that would change the arithmetic was ruled out.

    Raises:
        MismatchError: the adapter is of another kind, or a setting is not a value of its kind.
    """
    kind = settings.get("peft_type")
    if kind != "LORA":
        raise _refusal(name, f"peft_type is {kind!r:.40}, LORA is offered")
    if settings.get("use_dora"):
        raise _refusal(name, "use_dora: a DoRA scales by norms of the sum, which is no addition")
    bias = settings.get("bias", "none")
    if bias != "none":
        raise _refusal(name, f"bias is {bias!r:.40}, adapters with bias: none are offered")
    start = settings.get("init_lora_weights")
    if start not in PLAIN_STARTS:
        raise _refusal(
            name,
            f"init_lora_weights is {start!r:.40}: a part of the base was moved into the adapter, "
            "so it does not fit the base as it was",
        )
    for key, value in settings.items():
        if value and key not in HARMLESS:
            raise _refusal(name, f"{key} is set ({value!r:.60}), which is not offered")
    ranks = _numbers(settings, "rank_pattern", name)
    if any(not float(rank).is_integer() for rank in ranks.values()):
        raise _refusal(name, f"rank_pattern {ranks!r:.80} has ranks that are not whole")
    rank = _number(settings.get("r", 8), "r", name)
    if not rank.is_integer():
        raise _refusal(name, f"r is {rank!r}, a whole number is expected")
    return Scaling(
        rank=int(rank),
        alpha=_number(settings.get("lora_alpha", 8), "lora_alpha", name),
        ranks={key: int(value) for key, value in ranks.items()},
        alphas=_numbers(settings, "alpha_pattern", name),
        is_rank_stabilised=bool(settings.get("use_rslora")),
    )


def _place_saved(
    specs: Mapping[str, TensorSpec],
    there: Mapping[str, TensorSpec],
    settings: Mapping[str, object],
    base: Checkpoint,
) -> tuple[dict[str, TensorSpec], dict[str, TensorSpec], list[str]]:
    """Saved tensors that replace the base's, by its name; those of a head of its own; problems."""
    saved: dict[str, TensorSpec] = {}
    added: dict[str, TensorSpec] = {}
    problems = []
    for plain, spec in specs.items():
        target = find_target(plain, there)
        are_floats = spec.dtype in FLOATS and (target is None or target.dtype in FLOATS)
        if target is None and not is_own(plain, settings):
            problems.append(f"{spec.name} replaces {plain}, which {base.name} does not have")
        elif target is None or (target.shape != spec.shape and is_head(plain, settings)):
            if are_floats:
                added[plain] = spec
            else:
                problems.append(f"{spec.name} is {_kind(spec)}, floating numbers are expected")
        elif target.shape != spec.shape or (target.dtype in FLOATS) != (spec.dtype in FLOATS):
            problems.append(f"{spec.name} is {_kind(spec)}, {target.name} is {_kind(target)}")
        else:
            saved[target.name] = spec
    return saved, added, problems


def _with_own_head(adapter: Adapter, own: OwnHead) -> Adapter:
    """The adapter with its head; what it changes of a head that the model lacks is dropped."""
    left_out = set(own.left_out)
    return replace(
        adapter,
        adapted={own.body + n: one for n, one in adapter.adapted.items() if n not in left_out},
        saved={own.body + n: one for n, one in adapter.saved.items() if n not in left_out}
        | dict(own.tensors),
        body=own.body,
        left_out=own.left_out,
        config=own.config,
    )


def _sort_tensors(
    tensors: Sequence[TensorSpec],
) -> tuple[dict[str, dict[str, TensorSpec]], dict[str, TensorSpec], list[str]]:
    """Factors by module ("A", "B", and "embedding_A", "embedding_B"), saved tensors, problems."""
    pairs: dict[str, dict[str, TensorSpec]] = {}
    saved: dict[str, TensorSpec] = {}
    problems = []
    for spec in tensors:
        if not spec.name.startswith(PREFIX):
            problems.append(f"{spec.name!r:.200} does not begin with {PREFIX}")
            continue
        plain = spec.name.removeprefix(PREFIX)
        match = FACTORS.fullmatch(plain)
        if match:
            kind = (match["embedding"] or "") + match["factor"]
            pairs.setdefault(match["module"], {})[kind] = spec
        elif ".lora_" in plain:
            problems.append(f"{plain!r:.200} is a part of an adapter that is not offered")
        else:
            plain = plain.replace(".modules_to_save.default.", ".").replace(".base_layer.", ".")
            saved[plain.replace(".modules_to_save.", ".")] = spec
    return pairs, saved, problems


def _adapt(
    module: str,
    factors: Mapping[str, TensorSpec],
    there: Mapping[str, TensorSpec],
    scaling: Scaling,
    settings: Mapping[str, object],
    base: Checkpoint,
) -> tuple[str, AdaptedTensor] | str:
    """The tensor of the base that a module's factors change; text where they do not fit."""
    is_embedding = any(kind.startswith("embedding") for kind in factors)
    stem = "embedding_" if is_embedding else ""
    if set(factors) != {f"{stem}A", f"{stem}B"}:
        missing = sorted({f"{stem}A", f"{stem}B"} - set(factors))
        return f"{module} has no lora_{' and no lora_'.join(missing) or 'pair of one kind'}"
    a, b = factors[f"{stem}A"], factors[f"{stem}B"]
    target = find_target(f"{module}.weight", there)
    if target is None:
        return f"{module} is adapted, and {base.name} has no {module}.weight"
    if {a.dtype, b.dtype, target.dtype} - set(FLOATS):
        return f"{module}: {a.dtype} and {b.dtype} added to {target.dtype} are not all floating"
    if len(a.shape) != 2 or len(b.shape) != 2 or len(target.shape) != 2:
        return (
            f"{module} is no matrix ({_kind(target)}, A {_kind(a)}): a convolution is not offered"
        )
    rank = scaling.rank_of(module)
    if not rank or a.shape[0] != rank or b.shape[1] != rank:
        return f"{module}: the config says rank {rank}, A is {_kind(a)}, B is {_kind(b)}"
    made = (b.shape[0], a.shape[1])
    if target.shape not in (made, made[::-1]):
        return f"{module}: B A is {list(made)}, {target.name} is {_kind(target)}"
    is_transposed = target.shape != made
    if made[0] == made[1]:
        is_transposed = is_embedding or _is_conv1d(module, settings, base)
    if is_embedding and not is_transposed:
        return f"{module}: the embedding factors give {list(made[::-1])}, not {_kind(target)}"
    scale = scaling.scale_of(module)
    return target.name, AdaptedTensor(a, b, scale, is_transposed, module, is_embedding)


def _is_conv1d(module: str, settings: Mapping[str, object], base: Checkpoint) -> bool:
    """Whether a square layer is kept as [inputs, outputs]; the kind of model says it best."""
    if base.config.get("model_type") in CONV1D_KINDS:
        return module.rpartition(".")[2] in CONV1D_LAYERS
    return bool(settings.get("fan_in_fan_out"))


def _check_tied(adapted: Mapping[str, AdaptedTensor], base: Checkpoint, name: str) -> None:
    """Refuse to change a matrix that is also the head, which the adapter leaves as it is."""
    architectures = base.config.get("architectures")
    names = architectures if isinstance(architectures, list) else []
    is_language_model = any("LM" in str(entry) for entry in names)
    has_head = any(spec.name.endswith("lm_head.weight") for spec in base.tensors)
    is_tied = base.config.get("tie_word_embeddings", True) and is_language_model and not has_head
    changed = [module.module for module in adapted.values() if module.is_embedding]
    if changed and is_tied:
        raise _refusal(
            name, f"it changes {changed[0]}, which is the output head of {base.name} as well"
        )


def _by_pattern(patterns: Mapping[str, float], module: str, otherwise: float) -> float:
    """The value of the first pattern that fits the end of the module's name."""
    for pattern, value in patterns.items():
        if re.match(rf"(.*\.)?({pattern})$", module):
            return value
    return otherwise


def _check_pattern(pattern: str, key: str, name: str) -> None:
    repeats = sum(pattern.count(sign) for sign in "*+{")
    is_slow = repeats > MAX_REPEATS or (repeats and "(" in pattern) or len(pattern) > MAX_PATTERN
    try:
        re.compile(pattern)
    except (re.error, RecursionError, OverflowError):
        is_slow = True
    if is_slow:
        raise _refusal(name, f"{key} has {pattern!r:.80}, which is no pattern or a slow one")


def _numbers(settings: Mapping[str, object], key: str, name: str) -> dict[str, float]:
    table = settings.get(key) or {}
    if not isinstance(table, Mapping):
        raise _refusal(name, f"{key} is {table!r:.60}, a table is expected")
    for pattern in table:
        _check_pattern(str(pattern), key, name)
    return {str(k): _number(value, f"{key} of {k!s:.80}", name) for k, value in table.items()}


def _number(value: object, key: str, name: str) -> float:
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    if not is_number or not math.isfinite(value) or value <= 0:  # type: ignore[arg-type,operator]  # is_number says so
        raise _refusal(name, f"{key} is {value!r:.60}, a number above 0 is expected")
    return float(value)  # type: ignore[arg-type]  # as above


def _refusal(name: str, reason: str) -> MismatchError:
    return MismatchError(
        f"{name} is an adapter that cannot be used: {reason}. No tensor data was read.",
        MERGED,
        CODE,
    )


def _misfit(problems: Sequence[str], base: Checkpoint, name: str) -> MismatchError:
    listed = "".join(f"\n  {line}" for line in problems[:500])
    return MismatchError(
        f"{name} does not fit its base {base.name} ({base.uri}):{listed}\nNo tensor data was read.",
        "name the base that it was trained on, whole and with its head; or " + MERGED,
        CODE,
    )


def _kind(spec: TensorSpec) -> str:
    return f"{spec.dtype} {list(spec.shape)}"
