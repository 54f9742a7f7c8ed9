"""One model saved by two versions of transformers is one model; another computation is not."""

import copy
import json

import pytest
import transformers

from fusion.checkpoints.agreement import find_mismatches
from fusion.checkpoints.config import HARMLESS_KEYS, describe_config
from fusion.checkpoints.config_defaults import DEFAULTS, SHARED
from tests.support.hand_made import configured

VERSION = {"transformers_version": "4.57.1"}
LABELS = {"id2label": {"0": "neg", "1": "pos"}, "label2id": {"neg": 0, "pos": 1}}
SCALING = {
    "factor": 8.0, "high_freq_factor": 4.0, "low_freq_factor": 1.0,
    "original_max_position_embeddings": 64, "rope_type": "llama3",
}  # fmt: skip
ENCODER = {
    "attention_probs_dropout_prob": 0.1, "classifier_dropout": None, "hidden_act": "gelu",
    "hidden_dropout_prob": 0.1, "hidden_size": 64, "initializer_range": 0.02,
    "intermediate_size": 128, "layer_norm_eps": 1e-12, "max_position_embeddings": 32,
    "num_attention_heads": 4, "num_hidden_layers": 2, "type_vocab_size": 2,
    "position_embedding_type": "absolute", "use_cache": True, "vocab_size": 100,
    **LABELS, **VERSION,
}  # fmt: skip
DECODER = {
    "attention_dropout": 0.0, "hidden_act": "silu", "hidden_size": 64, "initializer_range": 0.02,
    "intermediate_size": 128, "max_position_embeddings": 256, "num_attention_heads": 4,
    "num_hidden_layers": 4, "num_key_value_heads": 2, "tie_word_embeddings": False,
    "use_cache": True, "vocab_size": 100, **VERSION,
}  # fmt: skip
# config.json as save_pretrained of transformers 4.57.1 writes it, by model_type.
OLD = {
    "bert": {
        "architectures": ["BertForSequenceClassification"], "model_type": "bert",
        "pad_token_id": 0, **ENCODER,
    },
    "roberta": {
        "architectures": ["RobertaForSequenceClassification"], "model_type": "roberta",
        "bos_token_id": 0, "eos_token_id": 2, "pad_token_id": 1, **ENCODER,
    },
    "gpt2": {
        "activation_function": "gelu_new", "architectures": ["GPT2LMHeadModel"], "attn_pdrop": 0.1,
        "bos_token_id": 5, "embd_pdrop": 0.1, "eos_token_id": 5, "initializer_range": 0.02,
        "layer_norm_epsilon": 1e-05, "model_type": "gpt2", "n_embd": 64, "n_head": 4,
        "n_inner": None, "n_layer": 2, "n_positions": 32, "reorder_and_upcast_attn": False,
        "resid_pdrop": 0.1, "scale_attn_by_inverse_layer_idx": False, "scale_attn_weights": True,
        "summary_activation": None, "summary_first_dropout": 0.1, "summary_proj_to_labels": True,
        "summary_type": "cls_index", "summary_use_proj": True, "use_cache": True,
        "vocab_size": 100, **VERSION,
    },
    "llama": {
        "architectures": ["LlamaForCausalLM"], "model_type": "llama", "attention_bias": False,
        "bos_token_id": 1, "eos_token_id": 2, "head_dim": 16, "mlp_bias": False,
        "pretraining_tp": 1, "rms_norm_eps": 1e-05, "rope_scaling": SCALING,
        "rope_theta": 500000.0, "dtype": "bfloat16", **DECODER,
    },
    "qwen2": {
        "architectures": ["Qwen2ForCausalLM"], "model_type": "qwen2", "bos_token_id": 3,
        "eos_token_id": 4, "layer_types": ["full_attention"] * 4, "max_window_layers": 4,
        "rms_norm_eps": 1e-06, "rope_scaling": None, "rope_theta": 1000000.0,
        "sliding_window": None, "use_sliding_window": False, **DECODER,
    },
    "qwen3": {
        "architectures": ["Qwen3ForCausalLM"], "model_type": "qwen3", "attention_bias": False,
        "bos_token_id": 3, "eos_token_id": 4, "head_dim": 128,
        "layer_types": ["full_attention"] * 4, "max_window_layers": 4, "rms_norm_eps": 1e-06,
        "rope_scaling": {"type": "yarn", "factor": 4.0, "original_max_position_embeddings": 64},
        "rope_theta": 1000000, "sliding_window": None, "use_sliding_window": False, **DECODER,
    },
    "t5": {
        "architectures": ["T5ForConditionalGeneration"], "classifier_dropout": 0.0, "d_ff": 128,
        "d_kv": 16, "d_model": 64, "decoder_start_token_id": 0, "dense_act_fn": "gelu_new",
        "dropout_rate": 0.1, "eos_token_id": 1, "feed_forward_proj": "gated-gelu",
        "initializer_factor": 1.0, "is_encoder_decoder": True, "is_gated_act": True,
        "layer_norm_epsilon": 1e-06, "model_type": "t5", "num_decoder_layers": 2, "num_heads": 4,
        "num_layers": 2, "pad_token_id": 0, "relative_attention_max_distance": 128,
        "relative_attention_num_buckets": 32, "tie_word_embeddings": False, "use_cache": True,
        "vocab_size": 100, **VERSION,
    },
    "vit": {
        "architectures": ["ViTForImageClassification"], "attention_probs_dropout_prob": 0.0,
        "encoder_stride": 16, "hidden_act": "gelu", "hidden_dropout_prob": 0.0, "hidden_size": 64,
        "image_size": 32, "initializer_range": 0.02, "intermediate_size": 128,
        "layer_norm_eps": 1e-12, "model_type": "vit", "num_attention_heads": 4, "num_channels": 3,
        "num_hidden_layers": 2, "patch_size": 8, "pooler_act": "tanh", "pooler_output_size": 64,
        "qkv_bias": True, **LABELS, **VERSION,
    },
    "gemma3_text": {
        "architectures": ["Gemma3ForCausalLM"], "model_type": "gemma3_text",
        "_sliding_window_pattern": 6, "attention_bias": False, "attn_logit_softcapping": None,
        "final_logit_softcapping": None, "head_dim": 16, "hidden_activation": "gelu_pytorch_tanh",
        "query_pre_attn_scalar": 256, "rms_norm_eps": 1e-06, "rope_local_base_freq": 10000.0,
        "rope_scaling": {"factor": 8.0, "rope_type": "linear"}, "rope_theta": 1000000.0,
        "bos_token_id": 2, "eos_token_id": 1, "pad_token_id": 0, "sliding_window": 512,
        "layer_types": ["sliding_attention"] * 4, "use_bidirectional_attention": False,
        **{key: value for key, value in DECODER.items() if "act" not in key.split("_")
           and key != "tie_word_embeddings"},
    },
    "phi3": {
        "architectures": ["Phi3ForCausalLM"], "model_type": "phi3", "bos_token_id": 1,
        "eos_token_id": 2, "pad_token_id": 0, "embd_pdrop": 0.0, "resid_pdrop": 0.0,
        "original_max_position_embeddings": 256, "partial_rotary_factor": 0.5,
        "rms_norm_eps": 1e-05, "rope_scaling": None, "rope_theta": 10000.0,
        "sliding_window": None, **DECODER,
    },
}  # fmt: skip


def saved_anew(config):
    """config.json as the installed transformers writes the model that it reads from another."""
    kind = transformers.models.auto.configuration_auto.CONFIG_MAPPING[config["model_type"]]
    return json.loads(kind.from_dict(copy.deepcopy(config)).to_json_string())


def differences(*configs):
    """Keys in which configs differ."""
    checkpoints = [configured(f"s{number}", config) for number, config in enumerate(configs)]
    return [mismatch.key for mismatch in find_mismatches(checkpoints, cast=False)]


@pytest.mark.parametrize("kind", OLD)
def test_a_model_saved_by_two_versions_of_transformers_is_one(kind):
    new = saved_anew(OLD[kind])
    assert new["transformers_version"].startswith("5.")
    assert new != OLD[kind]
    assert differences(OLD[kind], new) == []


WRONG = [
    ("bert", {"layer_norm_eps": 1e-5}, "layer_norm_eps"),
    ("bert", {"hidden_act": "gelu_new"}, "hidden_act"),
    ("bert", {"is_decoder": True}, "is_decoder"),
    ("bert", {"position_embedding_type": "relative_key"}, "position_embedding_type"),
    ("roberta", {"layer_norm_eps": 1e-5}, "layer_norm_eps"),
    ("roberta", {"hidden_act": "relu"}, "hidden_act"),
    ("roberta", {"pad_token_id": 0}, "pad_token_id"),
    ("gpt2", {"activation_function": "relu"}, "activation_function"),
    ("gpt2", {"layer_norm_epsilon": 1e-6}, "layer_norm_epsilon"),
    ("gpt2", {"scale_attn_weights": False}, "scale_attn_weights"),
    ("gpt2", {"scale_attn_by_inverse_layer_idx": True}, "scale_attn_by_inverse_layer_idx"),
    ("gpt2", {"n_head": 8}, "n_head"),
    ("gpt2", {"tie_word_embeddings": False}, "tie_word_embeddings"),
    ("llama", {"rope_theta": 10000.0}, "rope_theta"),
    ("llama", {"rope_scaling": None}, "rope_scaling.rope_type"),
    ("llama", {"rope_scaling": {**SCALING, "factor": 32.0}}, "rope_scaling.factor"),
    ("llama", {"rms_norm_eps": 1e-6}, "rms_norm_eps"),
    ("llama", {"hidden_act": "gelu"}, "hidden_act"),
    ("llama", {"num_attention_heads": 8}, "num_attention_heads"),
    ("llama", {"head_dim": 8}, "head_dim"),
    ("llama", {"attention_bias": True}, "attention_bias"),
    ("llama", {"tie_word_embeddings": True}, "tie_word_embeddings"),
    ("qwen2", {"rope_theta": 10000.0}, "rope_theta"),
    ("qwen2", {"rope_scaling": {"type": "yarn", "factor": 4.0}}, "rope_scaling.factor"),
    ("qwen2", {"rms_norm_eps": 1e-5}, "rms_norm_eps"),
    ("qwen2", {"use_sliding_window": True, "sliding_window": 64, "max_window_layers": 2,
               "layer_types": None}, "layer_types"),
    ("qwen3", {"rope_theta": 10000}, "rope_theta"),
    ("qwen3", {"rope_scaling": None}, "rope_scaling.factor"),
    ("t5", {"layer_norm_epsilon": 1e-5}, "layer_norm_epsilon"),
    ("t5", {"tie_word_embeddings": True}, "scale_decoder_outputs"),
    ("t5", {"feed_forward_proj": "gated-silu", "dense_act_fn": "silu"}, "dense_act_fn"),
    ("t5", {"relative_attention_max_distance": 64}, "relative_attention_max_distance"),
    ("vit", {"layer_norm_eps": 1e-6}, "layer_norm_eps"),
    ("vit", {"hidden_act": "relu"}, "hidden_act"),
    ("vit", {"pooler_act": "relu"}, "pooler_act"),
    ("vit", {"pooler_output_size": 32}, "pooler_output_size"),
    ("vit", {"qkv_bias": False}, "qkv_bias"),
    ("vit", {"image_size": 64}, "image_size"),
    ("gemma3_text", {"rope_local_base_freq": 1e6},
     "rope_parameters.sliding_attention.rope_theta"),
    ("gemma3_text", {"rope_theta": 10000.0}, "rope_parameters.full_attention.rope_theta"),
    ("gemma3_text", {"rope_scaling": None}, "rope_parameters.full_attention.factor"),
    ("phi3", {"partial_rotary_factor": 1.0}, "partial_rotary_factor"),
]  # fmt: skip


@pytest.mark.parametrize(("kind", "wrong", "key"), WRONG, ids=str)
def test_another_computation_is_refused_whichever_version_wrote_it(kind, wrong, key):
    old, new = OLD[kind], saved_anew(OLD[kind])
    assert key in differences({**old, **wrong}, new)
    assert key in differences({**old, **wrong}, old)
    assert key in differences(saved_anew({**old, **wrong}), new)
    assert differences({**old, **wrong}, saved_anew({**old, **wrong})) == []


@pytest.mark.parametrize(
    ("kind", "gone"),
    [
        ("llama", ["head_dim", "mlp_bias", "attention_bias", "pretraining_tp"]),
        ("qwen2", ["layer_types"]),
        ("t5", ["dense_act_fn", "is_gated_act", "num_decoder_layers", "classifier_dropout"]),
        ("vit", ["pooler_act", "pooler_output_size"]),
        ("bert", ["position_embedding_type", "use_cache", "classifier_dropout"]),
        ("gpt2", ["reorder_and_upcast_attn", "scale_attn_by_inverse_layer_idx", "n_inner"]),
        ("gemma3_text", ["layer_types", "_sliding_window_pattern"]),
    ],
)
def test_what_a_key_that_a_writer_did_not_know_stands_for_is_known(kind, gone):
    older = {key: value for key, value in OLD[kind].items() if key not in gone}
    assert differences(older, OLD[kind], saved_anew(OLD[kind])) == []


@pytest.mark.parametrize(
    "note",
    [
        {"unsloth_fixed": True, "unsloth_version": "2025.9.1"},
        {"_num_labels": 2, "_attn_implementation": "eager"},
        {"torchscript": False, "use_bfloat16": False, "attn_implementation": "sdpa"},
        {"max_length": 50, "do_sample": True, "num_beams": 4, "no_repeat_ngram_size": 3},
        {"output_past": True, "n_ctx": 32, "tie_weights_": True, "pruned_heads": {}},
        {"num_labels": 2, "add_cross_attention": False, "tie_encoder_decoder": False},
    ],
    ids=lambda note: next(iter(note)),
)
def test_what_tools_leave_behind_does_not_count(note):
    assert differences(OLD["bert"], {**OLD["bert"], **note}) == []


def test_two_names_of_one_activation_are_one():
    assert differences(*({"hidden_act": name} for name in ("silu", "swish"))) == []
    names = ("gelu_new", "gelu_fast", "gelu_pytorch_tanh")
    assert differences(*({"activation_function": name} for name in names)) == []
    assert differences({"hidden_act": "gelu"}, {"hidden_act": "gelu_new"}) == ["hidden_act"]


def test_a_config_inside_of_another_is_read_by_its_own_kind():
    text = OLD["llama"]
    new = saved_anew(text)
    whole = {"model_type": "of its own", "text_config": text}
    assert differences(whole, {**whole, "text_config": new}) == []
    wrong = {**new, "rope_parameters": {**new["rope_parameters"], "rope_theta": 1e4}}
    assert differences(whole, {**whole, "text_config": wrong}) == ["text_config.rope_theta"]


def test_of_an_unknown_kind_what_all_kinds_share_is_filled_in_and_nothing_else():
    kind = {"model_type": "of its own", "rope_theta": 5e5, "partial_rotary_factor": 0.5}
    moved = {"rope_theta": 500000, "partial_rotary_factor": 0.5, "rope_type": "default"}
    new = {"model_type": "of its own", "rope_parameters": moved, "tie_word_embeddings": True}
    assert differences(kind, new) == []
    assert differences(kind, {**new, "some_epsilon": 1e-5}) == ["some_epsilon"]


def test_a_theta_that_is_said_twice_in_two_ways_is_no_others():
    twice = {"rope_theta": 1e4, "rope_parameters": {"rope_theta": 5e5}}
    for theta in (1e4, 5e5):
        assert differences(twice, {"rope_theta": theta}) == ["rope_theta"]
    assert differences(twice, copy.deepcopy(twice)) == []


@pytest.mark.parametrize("odd", [5, [], "x", {"full_attention": 3}, {"rope_type": []}, True])
def test_rotary_positions_of_any_shape_are_compared_and_never_an_accident(odd):
    for key in ("rope_parameters", "rope_scaling", "rope_theta", "hidden_act", "hidden_size"):
        for kind in (*OLD, "of its own", 7, None):
            describe_config({"model_type": kind, key: odd, "num_attention_heads": 0})


@pytest.mark.parametrize("kind", DEFAULTS)
def test_the_defaults_are_those_of_the_installed_transformers(kind):
    own = transformers.models.auto.configuration_auto.CONFIG_MAPPING[kind]().to_dict()
    assert {key: own[key] for key in DEFAULTS[kind]} == dict(DEFAULTS[kind])


@pytest.mark.parametrize("kind", DEFAULTS)
def test_every_default_of_a_class_is_known(kind):
    own = transformers.models.auto.configuration_auto.CONFIG_MAPPING[kind]().to_dict()
    del own["id2label"]  # three of BART
    full = describe_config(own)
    assert full == describe_config({"model_type": kind})
    assert not HARMLESS_KEYS & (DEFAULTS[kind].keys() | SHARED.keys())
