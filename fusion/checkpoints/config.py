"""What a config.json says of the mathematics, whichever version of transformers wrote it.

Two configs that stand for the same computation give the same table: what one leaves to the
defaults of its model's class is filled in, two spellings of a thing become one, and what no
inference reads is left out.
"""

import json
from collections.abc import Iterator, Mapping

from fusion.checkpoints.config_defaults import DEFAULTS, SHARED
from fusion.checkpoints.heads import read_labels
from fusion.checkpoints.rope import canonical_rope

# Config keys that do not change what the model computes at inference.
HARMLESS_KEYS = frozenset({
    "name_or_path", "transformers_version", "torch_dtype", "dtype", "use_cache", "problem_type",
    "finetuning_task", "gradient_checkpointing", "output_attentions", "output_hidden_states",
    "return_dict", "task_specific_params", "label2id", "training", "torchscript", "tokenizer_class",
    "use_bfloat16", "attn_implementation", "pretraining_tp", "init_std", "prefix",
    "router_aux_loss_coef", "output_router_logits", "router_jitter_noise", "loss_type",
    "encoder_stride", "mask_ratio",  # of masked pictures in training
    "tie_weights_", "output_past", "n_ctx", "predict_special_tokens",  # read by nothing since 2020
    "tf_legacy_loss", "sparse_prediction", "sparse_pred_ignore_index", "deterministic_flash_attn",
    "reference_compile", "repad_logits_with_grad",
})  # fmt: skip
# Settings for generation that version 4 keeps in config.json too; version 5 keeps them apart.
GENERATION_KEYS = frozenset({
    "max_length", "min_length", "do_sample", "early_stopping", "num_beams", "num_beam_groups",
    "diversity_penalty", "temperature", "top_k", "top_p", "typical_p", "repetition_penalty",
    "length_penalty", "no_repeat_ngram_size", "encoder_no_repeat_ngram_size", "bad_words_ids",
    "num_return_sequences", "output_scores", "return_dict_in_generate", "forced_bos_token_id",
    "forced_eos_token_id", "remove_invalid_values", "exponential_decay_length_penalty",
    "suppress_tokens", "begin_suppress_tokens", "max_new_tokens",
})  # fmt: skip
HARMLESS_ENDS = (
    "dropout", "pdrop", "dropout_prob", "dropout_p", "layerdrop", "dropout_rate", "drop_path_rate",
)  # fmt: skip
# What tools write for themselves, and what a library keeps for itself but this one.
HARMLESS_STARTS = ("_", "unsloth_", "initializer_")
COUNTED = "_remove_final_layer_norm"
# Names of one function, by the name that is compared.
ACTIVATIONS: Mapping[object, str] = {
    "swish": "silu", "gelu_python": "gelu", "gelu_new": "gelu_pytorch_tanh",
    "gelu_fast": "gelu_pytorch_tanh", "gelu_python_tanh": "gelu_pytorch_tanh",
}  # fmt: skip
ACTIVATION_ENDS = ("act", "activation", "act_fn", "activation_function")
# Every n-th layer of these kinds sees all positions: the key of n, n, and which one of n.
FULL_LAYERS: Mapping[str, tuple[str, int, int]] = {
    "gemma2": ("sliding_window_pattern", 2, 1),
    "gemma3_text": ("sliding_window_pattern", 6, 5),
    "modernbert": ("global_attn_every_n_layers", 3, 0),
}
FULL, WINDOWED = "full_attention", "sliding_attention"
TIED = "tie_word_embeddings"


def describe_config(config: Mapping[str, object]) -> dict[str, str]:
    """All that may change the mathematics: value as JSON by the path of its key.

    The kinds of models in DEFAULTS are read as their class reads them. Of any other kind only what
    all kinds share is filled in; a key that one config has and another lacks counts there.
    """
    table = dict(config)
    labels = read_labels(table)
    if labels is not None:
        table.pop("num_labels", None)
        table["id2label"] = dict(enumerate(labels))
    return dict(_flatten(table))


def is_tied(config: Mapping[str, object]) -> bool:
    """Whether the head of a model is its embedding of tokens.

    Of T5 this cannot be told from the config, and of a kind that is not in DEFAULTS only from what
    it says.
    """
    known = config.get("model_type") in DEFAULTS
    return bool(canonical_config(config).get(TIED) if known else config.get(TIED))


def canonical_config(config: Mapping[str, object]) -> dict[str, object]:
    """A config, or one inside of it, with defaults filled in and one spelling for each thing.

    What follows from other keys is left out where it is as it follows.
    """
    kind = config.get("model_type")
    known = DEFAULTS.get(kind, {}) if isinstance(kind, str) else {}
    rope = known.get("rope_parameters")
    table = canonical_rope(config, rope if isinstance(rope, Mapping) else {})
    table = {**SHARED, **{k: v for k, v in known.items() if k != "rope_parameters"}, **table}
    if kind in ("t5", "mt5"):
        _spell_t5(table)
    _spell_attention(table)
    for key, derived in _derived_sizes(table).items():
        if table.get(key) == derived:
            table[key] = None
    for key, value in table.items():
        if key.endswith(ACTIVATION_ENDS) and isinstance(value, str):
            table[key] = ACTIVATIONS.get(value, value)
    return table


def _derived_sizes(table: Mapping[str, object]) -> dict[str, object]:
    """What sizes are that a config is silent about."""
    heads, hidden, width = (table.get(k) for k in ("num_attention_heads", "hidden_size", "n_embd"))
    sizes = {
        "num_key_value_heads": heads,
        "num_decoder_layers": table.get("num_layers"),
        "pooler_output_size": hidden,
        "pooler_hidden_size": hidden,
        "word_embed_proj_dim": hidden,
    }
    if isinstance(width, int):
        sizes["n_inner"] = 4 * width
    if isinstance(hidden, int) and isinstance(heads, int) and heads:
        sizes["head_dim"] = hidden // heads
    return sizes


def _spell_attention(table: dict[str, object]) -> None:
    """Which layers see a window only; those of the usual pattern are left out."""
    kind, count, listed = (table.get(k) for k in ("model_type", "num_hidden_layers", "layer_types"))
    num_layers = count if isinstance(count, int) else 0
    every, place = 1, 0
    if "max_window_layers" in table:
        first = table.pop("max_window_layers")
        if not table.get("use_sliding_window"):
            table["sliding_window"] = None
        elif listed is None and table.get("sliding_window") is not None and isinstance(first, int):
            listed = [FULL if layer < first else WINDOWED for layer in range(num_layers)]
    elif kind in FULL_LAYERS:
        key, every, place = FULL_LAYERS[str(kind)]
        stated = table.pop(key, None) or table.get(f"_{key}")
        if listed is None and isinstance(stated, int):
            full = place and stated - 1
            listed = [FULL if i % stated == full else WINDOWED for i in range(num_layers)]
    usual = [FULL if i % every == place else WINDOWED for i in range(num_layers)]
    table["layer_types"] = None if listed == usual else listed


def _spell_t5(table: dict[str, object]) -> None:
    """T5 v1.1 is told from T5 by a key that version 5 renamed: outputs are scaled, or not.

    Version 5 ties in either case; whether a head of its own is there, tensors tell.
    """
    is_tied = table.pop(TIED)
    if table["model_type"] == "t5":
        table.setdefault("scale_decoder_outputs", is_tied is not False)
    gate, _, name = str(table["feed_forward_proj"]).rpartition("-")
    table.setdefault("is_gated_act", gate == "gated")
    table.setdefault("dense_act_fn", "gelu_new" if (gate, name) == ("gated", "gelu") else name)


def _flatten(value: object, path: str = "") -> Iterator[tuple[str, str]]:
    """(path, value as JSON); null is the same as absent."""
    if isinstance(value, Mapping):
        table = canonical_config(value) if not path or "model_type" in value else value
        for key, inner in table.items():
            if path.endswith("id2label") or not _is_harmless(str(key)):
                yield from _flatten(inner, f"{path}.{key}" if path else str(key))
    elif value is not None:
        yield path, json.dumps(_plain(value), sort_keys=True, ensure_ascii=False)


def _is_harmless(key: str) -> bool:
    if key in HARMLESS_KEYS or key in GENERATION_KEYS or key.endswith(HARMLESS_ENDS):
        return True
    return key.startswith(HARMLESS_STARTS) and key != COUNTED


def _plain(value: object) -> object:
    """10000.0 as 10000: writers of config.json differ in that."""
    if isinstance(value, float) and value.is_integer():
        return int(value)
    if isinstance(value, list):
        return [_plain(entry) for entry in value]
    return value
