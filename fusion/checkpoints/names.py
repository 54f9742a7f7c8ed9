"""Names of tensors that wrappers and versions of libraries change: lists that are one after all."""

from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import replace

from fusion.checkpoints.checkpoint import Checkpoint
from fusion.checkpoints.spare import is_constant

# What torch.compile and data parallel trainers put into names.
WRAPPERS = frozenset({
    "_orig_mod", "module", "_fsdp_wrapped_module", "_checkpoint_wrapped_module",
})  # fmt: skip
# Layer norms of models that were converted from TensorFlow.
OLD_ENDS = {"gamma": "weight", "beta": "bias"}


def align_names(checkpoints: Sequence[Checkpoint]) -> tuple[Checkpoint, ...]:
    """Checkpoints whose tensors are called alike where one change of names makes their lists equal.

    Wrappers are taken off and old names of layer norms replaced; then what the encoder is called
    ("bert.") is put before names that lack it. A change is made only where lists differ, two
    tensors do not become one, and no other prefix would do. All others stay as they are, and are
    found to differ. Adapters are not renamed.
    """
    whole = [c for c in checkpoints if c.adapter is None]
    if len({frozenset(tensor.name for tensor in c.tensors) for c in whole}) < 2:
        return tuple(checkpoints)
    ways = [_with_prefixes([_rename(c, _unwrap) for c in whole]), _with_prefixes(whole)]
    aligned = min(ways, key=lambda way: len(_lists(way)))
    if len(_lists(aligned)) == len(_lists(whole)):
        return tuple(checkpoints)
    by_name = {checkpoint.name: checkpoint for checkpoint in aligned}
    return tuple(by_name.get(checkpoint.name, checkpoint) for checkpoint in checkpoints)


def _lists(checkpoints: Iterable[Checkpoint]) -> set[frozenset[str]]:
    return {_list(checkpoint) for checkpoint in checkpoints}


def _list(checkpoint: Checkpoint) -> frozenset[str]:
    """Names of the tensors that are no constants."""
    return frozenset(tensor.name for tensor in checkpoint.tensors if not is_constant(tensor))


def _unwrap(name: str) -> str:
    parts = [part for part in name.split(".") if part not in WRAPPERS]
    stem, end = parts[:-1], parts[-1] if parts else name
    return ".".join([*stem, OLD_ENDS.get(end, end)])


def _with_prefixes(checkpoints: Sequence[Checkpoint]) -> list[Checkpoint]:
    lists = _lists(checkpoints)
    return [_prefix(checkpoint, lists) for checkpoint in checkpoints]


def _prefix(checkpoint: Checkpoint, lists: Collection[frozenset[str]]) -> Checkpoint:
    """With the one prefix before its names that makes their list one of the others."""
    own = _list(checkpoint)
    ways = {(prefix, names) for names in lists if names != own for prefix in _ways(own, names)}
    if len(ways) != 1:
        return checkpoint
    prefix, names = ways.pop()
    constants = {tensor.name for tensor in checkpoint.tensors} - own

    def put(name: str) -> str:
        return prefix + name if prefix + name in names or name in constants else name

    return _rename(checkpoint, put)


def _ways(own: frozenset[str], names: frozenset[str]) -> list[str]:
    """First parts of `names` without which they are `own`."""
    if len(own) != len(names):
        return []
    firsts = {name.partition(".")[0] for name in names - own} - WRAPPERS
    return [f"{p}." for p in firsts if {name.removeprefix(f"{p}.") for name in names} == own]


def _rename(checkpoint: Checkpoint, change: Callable[[str], str]) -> Checkpoint:
    """The checkpoint with other names; as it was where two tensors would have one name."""
    changed = {tensor.name: change(tensor.name) for tensor in checkpoint.tensors}
    if len(set(changed.values())) < len(changed) or all(a == b for a, b in changed.items()):
        return checkpoint
    written = checkpoint.renamed
    return replace(
        checkpoint,
        tensors=tuple(replace(t, name=changed[t.name]) for t in checkpoint.tensors),
        renamed={new: written.get(old, old) for old, new in changed.items()},
    )
