"""Rotary positions of a config: one spelling for what versions 4 and 5 of transformers write."""

from collections.abc import Mapping

# What version 4 and older tools call a value that version 5 keeps in `rope_parameters`.
BESIDE: Mapping[str, tuple[str, ...]] = {
    "rope_theta": ("rope_theta", "rotary_emb_base"),
    "partial_rotary_factor": ("partial_rotary_factor", "rotary_pct"),
}
# Where layers of two types have a theta each: the keys of version 4.
LAYER_THETAS: Mapping[str, Mapping[str, str]] = {
    "gemma3_text": {"full_attention": "rope_theta", "sliding_attention": "rope_local_base_freq"},
    "modernbert": {"full_attention": "global_rope_theta", "sliding_attention": "local_rope_theta"},
}
# The scaling of version 4 is one for both types of layers, or for full attention alone.
SCALED_LAYERS: Mapping[str, tuple[str, ...]] = {
    "gemma3_text": ("full_attention",),
    "modernbert": ("full_attention", "sliding_attention"),
}
KINDS: Mapping[object, str] = {"su": "longrope", "mrope": "default"}
WITH_ORIGINAL_LENGTH = ("llama3", "yarn", "longrope")
ORIGINAL_LENGTH = "original_max_position_embeddings"


def canonical_rope(
    config: Mapping[str, object], assumed: Mapping[str, object]
) -> dict[str, object]:
    """A config whose rotary positions are spelled in one way, other keys as they are.

    The result has `rope_theta` and `partial_rotary_factor` where they are known, and
    `rope_scaling` without them where positions are scaled; where types of layers differ,
    `rope_parameters` by type. Factors of 1 and the type "default" are left out, as is
    "original_max_position_embeddings" where no scaling reads it. Where two keys say two things, of
    which one version reads the one and the other the other, the result holds both as a list.

    Args:
        config: the config, of version 4 or 5.
        assumed: `rope_parameters` that the kind of model assumes; {} where it is not known.
    """
    table = dict(config)
    kind = str(table.get("model_type"))
    inner = table.pop("rope_parameters", None)
    scaling = table.pop("rope_scaling", None)
    found = dict(inner) if isinstance(inner, Mapping) else {}
    if isinstance(scaling, Mapping):
        found |= scaling
    if kind in LAYER_THETAS or any(isinstance(value, Mapping) for value in found.values()):
        return table | {"rope_parameters": _by_layer(kind, found, table, assumed)}
    for name, spellings in BESIDE.items():
        outer = [value for key in spellings if (value := table.pop(key, None)) is not None]
        stated = list(dict.fromkeys(map(_plain, [*_present(found, name), *outer])))
        found[name] = (stated[0] if len(stated) == 1 else stated) if stated else assumed.get(name)
    theta, factor = found.pop("rope_theta"), found.pop("partial_rotary_factor")
    if theta is not None:
        table["rope_theta"] = theta
    if factor not in (None, 1):
        table["partial_rotary_factor"] = factor
    scaled = _scaling(found, table)
    return table | {"rope_scaling": scaled} if scaled else table


def _by_layer(
    kind: str,
    found: Mapping[str, object],
    table: dict[str, object],
    assumed: Mapping[str, object],
) -> dict[str, object]:
    """The positions of each type of layers; keys of version 4 are taken out of `table`."""
    is_nested = any(isinstance(value, Mapping) for value in found.values())
    keys = LAYER_THETAS.get(kind, {})
    layers: dict[str, object] = {}
    for layer in sorted({*keys, *(found if is_nested else ())}):
        own = found.get(layer) if is_nested else None
        own = dict(own) if isinstance(own, Mapping) else {}
        if not is_nested and layer in SCALED_LAYERS[kind]:
            own = dict(found)
        before = assumed.get(layer)
        default = before.get("rope_theta") if isinstance(before, Mapping) else None
        outer = table.pop(keys[layer], None) if layer in keys else None
        theta = own.pop("rope_theta", None) or outer or default
        layers[layer] = {"rope_theta": theta} | _scaling(own, table)
    return layers


def _scaling(found: Mapping[str, object], table: Mapping[str, object]) -> dict[str, object]:
    """What changes the angles beside theta; {} for positions as they are."""
    scaled = {key: value for key, value in found.items() if value is not None}
    spelled = scaled.pop("type", None)
    named = scaled.pop("rope_type", spelled) or "default"
    named = KINDS.get(named, named) if isinstance(named, str) else named
    if named in WITH_ORIGINAL_LENGTH:
        length = table.get(ORIGINAL_LENGTH) or scaled.get(ORIGINAL_LENGTH)
        scaled[ORIGINAL_LENGTH] = length or table.get("max_position_embeddings")
    elif named == "default":
        scaled.pop("factor", None)
        scaled.pop(ORIGINAL_LENGTH, None)
    return scaled if named == "default" else {"rope_type": named} | scaled


def _present(table: Mapping[str, object], key: str) -> list[object]:
    return [] if table.get(key) is None else [table[key]]


def _plain(value: object) -> object:
    """What can be compared: anything but a number or text as its own representation."""
    return value if isinstance(value, int | float | str) else repr(value)
