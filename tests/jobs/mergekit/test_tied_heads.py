"""A head that one model writes and another leaves out as tied, in every kind of model."""

import pytest
import torch

from fusion.errors import MismatchError
from jobs.candidates.pin import pin_checkpoint
from jobs.mergekit.document import parse_mergekit
from jobs.mergekit.request import mergekit_request
from tests.support.merging import write_checkpoint

DOCUMENT = """\
merge_method: linear
models:
- {model: a, parameters: {weight: 1}}
- {model: b, parameters: {weight: 1}}
"""


def head_of(folder, embedding, **config):
    """Where the two models' heads lie; a writes its head, b leaves it out."""
    matrix = torch.ones(8, 4)
    write_checkpoint(folder / "a", {embedding: matrix, "lm_head.weight": matrix.clone()}, config)
    write_checkpoint(folder / "b", {embedding: matrix}, config)
    document = parse_mergekit(DOCUMENT, name="m.yml", folder=str(folder))
    pinned = [pin_checkpoint(str(folder / name), name=name)[0] for name in "ab"]
    tensors = {tensor.name: tensor for tensor in mergekit_request(document, pinned).tensors}
    return [
        next(t.name for t in checkpoint.tensors if t.start == source.start)
        for checkpoint, source in zip(pinned, tensors["lm_head.weight"].sources, strict=True)
    ]


@pytest.mark.parametrize(
    ("kind", "embedding", "said"),
    [
        ("llama", "model.embed_tokens.weight", {}),
        ("gemma2", "model.embed_tokens.weight", {}),
        ("qwen3", "model.embed_tokens.weight", {"tie_word_embeddings": True}),
        ("opt", "model.decoder.embed_tokens.weight", {"tie_word_embeddings": True}),
        ("bloom", "transformer.word_embeddings.weight", {"tie_word_embeddings": True}),
    ],
)
def test_a_head_that_is_left_out_is_the_embedding(tmp_path, kind, embedding, said):
    assert head_of(tmp_path, embedding, model_type=kind, **said) == ["lm_head.weight", embedding]


def test_a_head_that_is_not_tied_is_missing(tmp_path):
    config = {"model_type": "qwen3", "tie_word_embeddings": False}
    with pytest.raises(MismatchError, match=r"lm_head\.weight is missing in b"):
        head_of(tmp_path, "model.embed_tokens.weight", **config)
