"""Can these checkpoints be averaged? Every difference that forbids it, found from headers alone."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from fusion.checkpoints.checkpoint import Checkpoint, TensorSpec, model_tensors
from fusion.checkpoints.config import describe_config
from fusion.checkpoints.spare import find_spare
from fusion.dtypes import FLOATS
from fusion.errors import MismatchError

# More lines than a reader needs, fewer than a terminal's scrollback holds.
LISTED = 500
# Names on one line of checkpoints that differ in the same way.
NAMED = 8
WHO = "\0"  # in no name, token or value: those of headers and JSON are written with escapes
SEVERITY = ("E-TENSORS", "E-SHAPE", "E-DTYPE", "E-VOCABULARY", "E-CONFIG")


@dataclass(frozen=True, slots=True)
class Mismatch:
    """One difference.

    Attributes:
        checkpoint: name of the checkpoint that differs from most of the others.
        code: E-TENSORS, E-SHAPE, E-DTYPE, E-VOCABULARY or E-CONFIG.
        saying: what differs and how, for people; WHO stands where the checkpoint is named.
        tensor: name of the tensor that differs; "" where the difference is not about a tensor.
        key: key of config.json that differs; "" where the difference is not about config.json.
    """

    checkpoint: str
    code: str
    saying: str
    tensor: str = ""
    key: str = ""

    @property
    def text(self) -> str:
        """What differs and how, for people."""
        return self.saying.replace(WHO, self.checkpoint)


def find_mismatches(
    checkpoints: Sequence[Checkpoint],
    *,
    cast: bool,
    vocabularies: Mapping[str, Mapping[str, int]] | None = None,
) -> tuple[Mismatch, ...]:
    """All differences between checkpoints, each named by the one that stands against the most.

    Where as many say one thing as another, the first checkpoint is taken to be right.

    Args:
        checkpoints: checkpoints to compare, with names that differ.
        cast: whether floating dtypes may differ (the merge casts them); whole numbers never may.
        vocabularies: token -> id by checkpoint name, to name a token that differs; None if not
            known.
    """
    if len(checkpoints) < 2:
        return ()
    tables = {c.name: {t.name: t for t in model_tensors(c)} for c in checkpoints}
    spare = find_spare(checkpoints)
    found: list[Mismatch] = []
    for tensor in dict.fromkeys(n for table in tables.values() for n in table if n not in spare):
        found += _tensor_mismatches(tensor, tables, cast=cast)
    found += _vocabulary_mismatches(checkpoints, vocabularies or {})
    found += _cutting_mismatches(checkpoints)
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
        MismatchError: there are differences; the error's code is that of the gravest one.
    """
    refuse_mismatches(
        find_mismatches(checkpoints, cast=cast, vocabularies=vocabularies), checkpoints
    )


def refuse_mismatches(found: Sequence[Mismatch], checkpoints: Sequence[Checkpoint]) -> None:
    """Raise one error that lists these differences; nothing happens if there are none.

    Raises:
        MismatchError: there are differences; the error's code is that of the gravest one.
    """
    if not found:
        return
    num_tensors = len({tensor.name for c in checkpoints for tensor in model_tensors(c)})
    counts = _describe_counts(found, num_tensors)
    said = describe_mismatches(found)
    if len(said) == 1:
        listed = f"{counts}: {said[0][1]}."
    else:
        lines = [f"  {code}  {text}" for code, text in said[:LISTED]]
        if len(said) > LISTED:
            lines.append(f"  ... and {len(said) - LISTED:,} more")
        listed = f"{len(checkpoints)} candidates cannot be averaged, {counts}:\n" + "\n".join(lines)
    raise MismatchError(
        f"{listed}\nNo tensor data was read.",
        _describe_way_out(found),
        min((m.code for m in found), key=SEVERITY.index),
    )


def describe_mismatches(found: Sequence[Mismatch]) -> tuple[tuple[str, str], ...]:
    """(code, text) of each difference; checkpoints that differ in the same way share one."""
    names: dict[tuple[str, str], list[str]] = {}
    for mismatch in found:
        names.setdefault((mismatch.code, mismatch.saying), []).append(mismatch.checkpoint)
    return tuple(
        (code, saying.replace(WHO, _list_names(who))) for (code, saying), who in names.items()
    )


def _list_names(names: Sequence[str]) -> str:
    """The names with commas between, "and" before the last."""
    more = len(names) - NAMED
    last = f"{more} more" if more > 0 else names[-1]
    first = names[:NAMED] if more > 0 else names[:-1]
    return f"{', '.join(first)} and {last}" if first else last


def _describe_counts(found: Sequence[Mismatch], num_tensors: int) -> str:
    tensors = len({m.tensor for m in found if m.tensor})
    tokenizers = len({m.checkpoint for m in found if m.code == "E-VOCABULARY"})
    configs = len({m.key for m in found if m.code == "E-CONFIG"})
    parts = [
        f"{tensors} of {num_tensors} tensors" if tensors else "",
        f"{tokenizers} tokenizer{'s' * (tokenizers > 1)}" if tokenizers else "",
        f"{configs} config value{'s' * (configs > 1)}" if configs else "",
    ]
    is_one = tensors + tokenizers + configs == 1
    if tensors:
        is_one = num_tensors == len(found) == 1
    verb = "differs" if is_one else "differ"
    return " and ".join(part for part in parts if part) + f" {verb}"


def _describe_way_out(found: Sequence[Mismatch]) -> str:
    names = ", ".join(dict.fromkeys(m.checkpoint for m in found))
    way_out = f"leave out {names} (or set select.on_mismatch: drop), or export it like the others"
    if {m.code for m in found} == {"E-DTYPE"}:
        return f"set merge.dtype, which casts floating tensors; or {way_out}"
    return way_out


def _tensor_mismatches(
    tensor: str, tables: Mapping[str, Mapping[str, TensorSpec]], *, cast: bool
) -> list[Mismatch]:
    presence = {name: "there" if tensor in table else "" for name, table in tables.items()}
    found = [
        Mismatch(name, "E-TENSORS", f"{tensor} is {'only' if value else 'not'} in {WHO}", tensor)
        for name, value, _ in _odd_ones(presence)
    ]
    there = {name: table[tensor] for name, table in tables.items() if tensor in table}
    if {m.checkpoint for m in found} >= there.keys():
        return found
    shapes = {name: str(list(spec.shape)) for name, spec in there.items()}
    dtypes = {
        name: "float" if cast and spec.dtype in FLOATS else spec.dtype
        for name, spec in there.items()
    }
    return found + [
        Mismatch(name, code, f"{tensor} is {value} in {WHO}, {usual}", tensor)
        for code, values in (("E-SHAPE", shapes), ("E-DTYPE", dtypes))
        for name, value, usual in _odd_ones(values)
    ]


def _odd_ones(values: Mapping[str, str]) -> list[tuple[str, str, str]]:
    """(name, its value, "the usual value elsewhere") of those that differ from most.

    Ties favour the first.
    """
    counts = Counter(values.values())
    if len(counts) == 1:
        return []
    usual = counts.most_common(1)[0][0]
    where = "elsewhere" if len(counts) == 2 else "in most others"
    return [
        (name, value, f"{usual:.160} {where}") for name, value in values.items() if value != usual
    ]


def _vocabulary_mismatches(
    checkpoints: Sequence[Checkpoint], vocabularies: Mapping[str, Mapping[str, int]]
) -> list[Mismatch]:
    digests = {c.name: c.tokenizer_digest for c in checkpoints}
    odd = [name for name, _, _ in _odd_ones(digests)]
    model = next(name for name in digests if name not in odd)
    found = []
    for name in odd:
        if not digests[name] or not digests[model]:
            without, other = (model, name) if digests[name] else (name, model)
            saying = f"{without} has no tokenizer, {other} has one"
        else:
            difference = _token_difference(
                vocabularies.get(name, {}), vocabularies.get(model, {}), model
            )
            saying = f"the tokenizer of {WHO} differs: {difference}"
        found.append(Mismatch(name, "E-VOCABULARY", saying))
    return found


def _cutting_mismatches(checkpoints: Sequence[Checkpoint]) -> list[Mismatch]:
    """Of checkpoints with one vocabulary, what makes their tokenizers cut differently.

    Files of two formats say different things: what one says and another leaves open is no
    difference.
    """
    groups: dict[str, list[Checkpoint]] = {}
    for checkpoint in checkpoints:
        groups.setdefault(checkpoint.tokenizer_digest, []).append(checkpoint)
    found = []
    for group in groups.values():
        for part in sorted({part for checkpoint in group for part in checkpoint.cutting}):
            stated = {c.name: c.cutting[part] for c in group if part in c.cutting}
            found += [
                Mismatch(
                    name,
                    "E-VOCABULARY",
                    f"the tokenizer of {WHO} cuts texts differently: {part} is {value:.160}, "
                    f"{usual}",
                )
                for name, value, usual in _odd_ones(stated)
            ]
    return found


def _token_difference(odd: Mapping[str, int], usual: Mapping[str, int], model: str) -> str:
    if not odd or not usual:
        return f"{len(odd)} tokens are known of {WHO}, {len(usual)} of {model}"
    by_id_odd = {index: token for token, index in odd.items()}
    by_id_usual = {index: token for token, index in usual.items()}
    for index in sorted(by_id_odd.keys() | by_id_usual.keys()):
        a, b = (
            f"{table[index]!r:.60}" if index in table else "no token"
            for table in (by_id_odd, by_id_usual)
        )
        if a != b:
            return f"id {index} is {a} in {WHO}, {b} in {model}; rows would be mixed"
    return "same tokens, other merges or scores"


def _config_mismatches(checkpoints: Sequence[Checkpoint]) -> list[Mismatch]:
    tables = {c.name: describe_config(c.config) for c in checkpoints}
    found = []
    for key in sorted({key for table in tables.values() for key in table}):
        values = {name: table.get(key, "not set") for name, table in tables.items()}
        found += [
            Mismatch(name, "E-CONFIG", f"config {key} is {value:.160} in {WHO}, {usual}", key=key)
            for name, value, usual in _odd_ones(values)
        ]
    return found
