"""Can these checkpoints be averaged? Every difference that forbids it, found from headers alone."""

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from fusion.checkpoint import Checkpoint, TensorSpec
from fusion.dtypes import FLOATS
from fusion.errors import MismatchError

# Config keys that do not change what the model computes at inference.
HARMLESS_KEYS = frozenset({
    "_name_or_path", "transformers_version", "torch_dtype", "dtype", "use_cache", "problem_type",
    "finetuning_task", "architectures_version", "attention_probs_dropout_prob",
    "hidden_dropout_prob", "attention_dropout", "hidden_dropout", "classifier_dropout", "dropout",
    "activation_dropout", "embd_pdrop", "attn_pdrop", "resid_pdrop", "summary_first_dropout",
    "initializer_range", "initializer_factor", "gradient_checkpointing", "output_attentions",
    "output_hidden_states", "return_dict", "task_specific_params", "label2id", "_commit_hash",
    "training", "_attn_implementation_autoset",
})  # fmt: skip
LISTED = 20
SEVERITY = ("E-TENSORS", "E-SHAPE", "E-DTYPE", "E-VOCABULARY", "E-CONFIG")


@dataclass(frozen=True, slots=True)
class Mismatch:
    """One difference.

    Attributes:
        checkpoint: the one that differs from most of the others.
        code: E-TENSORS, E-SHAPE, E-DTYPE, E-VOCABULARY or E-CONFIG.
        text: what differs and how, for people.
    """

    checkpoint: str
    code: str
    text: str


def find_mismatches(
    checkpoints: Sequence[Checkpoint],
    *,
    cast: bool,
    vocabularies: Mapping[str, Mapping[str, int]] | None = None,
) -> tuple[Mismatch, ...]:
    """All differences between checkpoints, each named by the one that stands against the most.

    Args:
        checkpoints: at least one.
        cast: floating dtypes may differ (the merge casts); whole numbers never.
        vocabularies: token -> id by checkpoint name, to name a token that differs.
    """
    tables = {c.name: {t.name: t for t in c.tensors} for c in checkpoints}
    found: list[Mismatch] = []
    every = dict.fromkeys(name for table in tables.values() for name in table)
    for tensor in every:
        found += _tensor_mismatches(tensor, tables, cast=cast)
    found += _vocabulary_mismatches(checkpoints, vocabularies or {})
    found += _config_mismatches(checkpoints)
    return tuple(found)


def check_agree(
    checkpoints: Sequence[Checkpoint],
    *,
    cast: bool,
    vocabularies: Mapping[str, Mapping[str, int]] | None = None,
) -> None:
    """Raise one error that lists all differences.

    Raises:
        MismatchError: its code is that of the gravest difference.
    """
    found = find_mismatches(checkpoints, cast=cast, vocabularies=vocabularies)
    if not found:
        return
    code = min((m.code for m in found), key=SEVERITY.index)
    num_tensors = max(len(c.tensors) for c in checkpoints)
    of_tensors = sum(m.code in ("E-TENSORS", "E-SHAPE", "E-DTYPE") for m in found)
    counts = f"{of_tensors} of {num_tensors} tensors differ" if of_tensors else "they differ"
    lines = [f"  {m.code}  {m.text}" for m in found[:LISTED]]
    if len(found) > LISTED:
        lines.append(f"  ... and {len(found) - LISTED} more")
    names = ", ".join(dict.fromkeys(m.checkpoint for m in found))
    raise MismatchError(
        f"{len(checkpoints)} candidates cannot be averaged, {counts}:\n"
        + "\n".join(lines)
        + "\nNo tensor data was read.",
        f"leave out {names} (or set select.on_mismatch: drop), or export it again like the others",
        code,
    )


def _tensor_mismatches(
    tensor: str, tables: Mapping[str, Mapping[str, TensorSpec]], *, cast: bool
) -> list[Mismatch]:
    there = {name: table[tensor] for name, table in tables.items() if tensor in table}
    absent = [name for name in tables if name not in there]
    if absent:
        if len(absent) <= len(there):
            return [Mismatch(n, "E-TENSORS", f"{tensor} is missing in {n}") for n in absent]
        return [Mismatch(n, "E-TENSORS", f"{tensor} is only in {n}") for n in there]

    def dtype(spec: TensorSpec) -> str:
        return "float" if cast and spec.dtype in FLOATS else spec.dtype

    shapes = _odd_ones(there, lambda spec: str(list(spec.shape)))
    dtypes = _odd_ones(there, dtype)
    return [
        Mismatch(name, "E-SHAPE", f"{tensor} is {odd} in {name}, {usual} elsewhere")
        for name, odd, usual in shapes
    ] + [
        Mismatch(name, "E-DTYPE", f"{tensor} is {odd} in {name}, {usual} elsewhere")
        for name, odd, usual in dtypes
    ]


def _odd_ones(
    values: Mapping[str, TensorSpec], key: Callable[[TensorSpec], str]
) -> list[tuple[str, str, str]]:
    """(name, its value, the usual value) of those that differ from most; ties favour the first."""
    keyed = {name: key(value) for name, value in values.items()}
    usual = Counter(keyed.values()).most_common(1)[0][0]
    return [(name, value, usual) for name, value in keyed.items() if value != usual]


def _vocabulary_mismatches(
    checkpoints: Sequence[Checkpoint], vocabularies: Mapping[str, Mapping[str, int]]
) -> list[Mismatch]:
    digests = {c.name: c.tokenizer_digest for c in checkpoints}
    usual = Counter(digests.values()).most_common(1)[0][0]
    model = next(name for name, digest in digests.items() if digest == usual)
    found = []
    for name, digest in digests.items():
        if digest == usual:
            continue
        example = _token_difference(
            vocabularies.get(name, {}), vocabularies.get(model, {}), name, model
        )
        found.append(Mismatch(name, "E-VOCABULARY", f"tokenizer of {name} differs: {example}"))
    return found


def _token_difference(
    odd: Mapping[str, int], usual: Mapping[str, int], name: str, model: str
) -> str:
    if not odd or not usual:
        return f"{len(odd)} tokens in {name}, {len(usual)} in {model}"
    by_id_odd = {index: token for token, index in odd.items()}
    by_id_usual = {index: token for token, index in usual.items()}
    for index in sorted(by_id_odd.keys() | by_id_usual.keys()):
        a, b = by_id_odd.get(index), by_id_usual.get(index)
        if a != b:
            return f"id {index} is {a!r:.60} in {name}, {b!r:.60} in {model}; rows would be mixed"
    return "merges or added tokens differ"


def _config_mismatches(checkpoints: Sequence[Checkpoint]) -> list[Mismatch]:
    keys = sorted({key for c in checkpoints for key in c.config} - HARMLESS_KEYS)
    found = []
    for key in keys:
        values = {c.name: repr(c.config.get(key)) for c in checkpoints}
        usual = Counter(values.values()).most_common(1)[0][0]
        found += [
            Mismatch(
                name, "E-CONFIG", f"config {key} is {value:.120} in {name}, {usual:.120} elsewhere"
            )
            for name, value in values.items()
            if value != usual
        ]
    return found
