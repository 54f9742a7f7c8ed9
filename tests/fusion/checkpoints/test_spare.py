"""Constants that one candidate holds alone are left out; what was trained is not."""

import pytest

from fusion.checkpoints.agreement import find_mismatches
from fusion.checkpoints.spare import find_embedding, find_spare, is_constant
from fusion.plans.requests import model_request
from fusion.plans.wish import MergeWish
from tests.support.hand_made import configured, make_checkpoint

BERT = {"model_type": "bert"}
PLAIN = {"w": (4, 2), "b": (4,)}
CONSTANTS = {
    "bert.embeddings.position_ids": (1, 512),
    "embeddings.token_type_ids": (1, 512),
    "transformer.h.0.attn.bias": (1, 1, 64, 64),
    "h.11.attn.masked_bias": (),
    "gpt_neox.layers.0.attention.bias": (1, 1, 64, 64),
    "model.layers.0.self_attn.rotary_emb.inv_freq": (32,),
    "bn1.num_batches_tracked": (),
    "swin.encoder.layers.0.blocks.0.attention.self.relative_position_index": (49, 49),
}
TRAINED = {
    "transformer.h.0.attn.bias": (64,),
    "encoder.attention.bias": (1, 8, 64, 64),
    "transformer.h.0.attn.c_attn.bias": (192,),
    "embeddings.position_embeddings.weight": (512, 4),
    "position_ids.weight": (4, 4),
    "my_inv_frequency": (4,),
    "bn1.running_mean": (4,),
}


def codes(*checkpoints):
    return [(m.checkpoint, m.code, m.tensor) for m in find_mismatches(checkpoints, cast=False)]


@pytest.mark.parametrize("name", CONSTANTS)
def test_a_constant_in_one_alone_is_left_out_of_the_merge(name):
    held = configured("a", BERT, {**PLAIN, name: CONSTANTS[name]})
    without = configured("b", BERT, PLAIN)
    for pair in ((held, without), (without, held)):
        assert codes(*pair) == []
        assert find_spare(pair) == {name: "constant"}
        request = model_request(pair, (1.0, 1.0), MergeWish())
        assert [tensor.name for tensor in request.tensors] == ["w", "b"]


@pytest.mark.parametrize("name", TRAINED)
def test_what_was_trained_is_never_left_out(name):
    held = configured("a", BERT, {**PLAIN, name: TRAINED[name]})
    assert codes(held, configured("b", BERT, PLAIN)) == [("b", "E-TENSORS", name)]
    assert not is_constant(make_checkpoint("c", {name: TRAINED[name]}).tensors[0])


@pytest.mark.parametrize("name", CONSTANTS)
def test_a_constant_that_all_hold_is_merged_like_any_tensor(name):
    pair = [configured(n, BERT, {**PLAIN, name: CONSTANTS[name]}) for n in "ab"]
    assert find_spare(pair) == {}
    request = model_request(pair, (1.0, 1.0), MergeWish())
    assert name in [tensor.name for tensor in request.tensors]


EMBEDDING = {"model.embed_tokens.weight": (8, 4)}
HEADED = {**EMBEDDING, "lm_head.weight": (8, 4)}


@pytest.mark.parametrize(
    ("config", "expected"),
    [
        ({"model_type": "qwen3", "tie_word_embeddings": True}, []),
        ({"model_type": "gemma2"}, []),
        ({"model_type": "of its own", "tie_word_embeddings": True}, []),
        ({"model_type": "llama"}, [("b", "E-TENSORS", "lm_head.weight")]),
        ({"model_type": "of its own"}, [("b", "E-TENSORS", "lm_head.weight")]),
        (
            {"model_type": "qwen3", "tie_word_embeddings": False},
            [("b", "E-TENSORS", "lm_head.weight")],
        ),
    ],
    ids=str,
)
def test_a_head_in_one_alone_is_a_copy_where_the_config_ties_it(config, expected):
    assert codes(configured("a", config, HEADED), configured("b", config, EMBEDDING)) == expected


def test_a_head_of_another_shape_is_no_copy():
    config = {"model_type": "qwen3", "tie_word_embeddings": True}
    odd = {**EMBEDDING, "lm_head.weight": (9, 4)}
    assert codes(configured("a", config, odd), configured("b", config, EMBEDDING)) != []


def test_the_encoder_and_decoder_of_t5_share_an_embedding_and_its_head_is_its_own():
    shared = {"shared.weight": (8, 4), "w": (2,)}
    copies = {"encoder.embed_tokens.weight": (8, 4), "decoder.embed_tokens.weight": (8, 4)}
    t5 = {"model_type": "t5"}
    assert codes(configured("a", t5, shared | copies), configured("b", t5, shared)) == []
    headed = configured("a", t5, {**shared, "lm_head.weight": (8, 4)})
    assert len(codes(headed, configured("b", t5, shared))) == 1


def test_the_embedding_of_tokens_is_found_only_where_there_is_one():
    assert find_embedding(make_checkpoint("a", HEADED).tensors).name == "model.embed_tokens.weight"
    assert find_embedding(make_checkpoint("a", PLAIN).tensors) is None
    two = make_checkpoint("a", {**EMBEDDING, "text.wte.weight": (8, 4)})
    assert find_embedding(two.tensors) is None
