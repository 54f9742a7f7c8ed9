"""What people should know of candidates that can be merged: once, in plain words."""

from collections.abc import Mapping, Sequence

from fusion.checkpoints.checkpoint import Checkpoint, LeftBehind, model_tensors
from fusion.checkpoints.spare import CONSTANT, find_spare
from jobs.console.figures import list_some

COPIED = "a copy of the embedding, which the config ties"
# Files on one line; card and manifest name all.
LISTED = 12
UNNAMED = "an unnamed model"


def find_doubts(
    checkpoints: Sequence[Checkpoint], *, writes_copies: bool = False
) -> tuple[str, ...]:
    """What is odd about candidates without being wrong, and what of them is left out.

    Args:
        checkpoints: the candidates.
        writes_copies: whether the output has a tied head that only some of them hold.
    """
    spare = find_spare(checkpoints)
    spare = {name: why for name, why in spare.items() if why == CONSTANT or not writes_copies}
    left_out = _find_left_out(checkpoints, spare)
    heads = _find_other_heads(checkpoints)
    return (*_find_bases(checkpoints), *heads, *_find_names(checkpoints), *left_out)


def describe_left_behind(entries: Sequence[LeftBehind]) -> str:
    """One line about the files that do not go with a model; "" where all go."""
    if not entries:
        return ""
    listed = list_some([f"{entry.name} ({entry.reason})" for entry in entries], LISTED)
    return f"files that do not go with the model: {listed}"


def _find_bases(checkpoints: Sequence[Checkpoint]) -> tuple[str, ...]:
    named: dict[str, list[str]] = {}
    for checkpoint in checkpoints:
        if checkpoint.adapter is not None:
            model = str(checkpoint.adapter.settings.get("base_model_name_or_path") or UNNAMED)
            named.setdefault(model, []).append(checkpoint.name)
    if len(named) < 2:
        return ()
    listed = "; ".join(f"{model:.120} ({', '.join(names)})" for model, names in named.items())
    return (f"the adapters say that they were trained on {len(named)} models: {listed}",)


def _find_names(checkpoints: Sequence[Checkpoint]) -> list[str]:
    found = []
    for checkpoint in checkpoints:
        changed = {new: old for new, old in checkpoint.renamed.items() if new != old}
        if changed:
            new, old = next(iter(changed.items()))
            found.append(
                f"{checkpoint.name}: {len(changed)} of {len(checkpoint.tensors)} tensors are "
                f"called otherwise than in the others and are read by their names, such as {old} "
                f"as {new}"
            )
    return found


def _find_left_out(checkpoints: Sequence[Checkpoint], spare: Mapping[str, str]) -> list[str]:
    found = []
    for reason in dict.fromkeys(spare.values()):
        names = [name for name, own in spare.items() if own == reason]
        holders = [
            c.name for c in checkpoints if {tensor.name for tensor in model_tensors(c)} & {*names}
        ]
        what = "constants that a model computes itself" if reason == CONSTANT else COPIED
        found.append(f"left out: {list_some(names, 1)} ({what}), in {', '.join(holders)} alone")
    return found


def _find_other_heads(checkpoints: Sequence[Checkpoint]) -> tuple[str, ...]:
    """Heads of bases that models with a head of their own do not have; each said once."""
    adapters = [c.adapter for c in checkpoints if c.adapter is not None and c.adapter.left_out]
    return tuple(
        dict.fromkeys(
            f"{len(adapter.left_out)} tensors of {adapter.base.name} belong to another head and "
            f"are left out, first {adapter.left_out[0]}: the adapters bring their own"
            for adapter in adapters
        )
    )
