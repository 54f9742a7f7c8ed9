"""Tensors that not every checkpoint needs: constants that a model computes, tied heads."""

import re
from collections.abc import Sequence

from fusion.checkpoints.checkpoint import Checkpoint, TensorSpec, model_tensors
from fusion.checkpoints.config import is_tied

# Buffers by the end of their name: positions, angles, counters, indices into tables of biases.
CONSTANTS = re.compile(
    r"(.*[._])?(position_ids|token_type_ids|inv_freq|original_inv_freq|cos_cached|sin_cached"
    r"|num_batches_tracked|relative_position_index|masked_bias)"
)
# Causal masks, [1, 1, positions, positions]; a bias that is trained has one axis.
MASKS = re.compile(
    r"(.*\.)?(attn|attention|crossattention|self_attention)\.(bias|causal_mask|mask)"
)
# Copies of the embedding of tokens, where the config ties them.
COPIES = re.compile(
    r"(lm_head|embed_out|cls\.predictions\.decoder|lm_head\.decoder|output_projection"
    r"|(model\.)?(encoder|decoder)\.embed_tokens)\.weight"
)
EMBEDDING = re.compile(
    r"(.*\.)?(embed_tokens|wte|shared|word_embeddings|embed_in|tok_embeddings"
    r"|backbone\.embeddings)\.weight"
)
# Kinds whose encoder and decoder share an embedding, whatever the config says of the head.
SHARING, SHARED = ("t5", "mt5"), "embed_tokens.weight"
CONSTANT, COPY = "constant", "copy of the embedding"


def find_spare(checkpoints: Sequence[Checkpoint]) -> dict[str, str]:
    """What is left out of a merge since not all checkpoints hold it, and why, by tensor.

    A constant that all hold is merged like any tensor.
    """
    tables = [{tensor.name: tensor for tensor in model_tensors(c)} for c in checkpoints]
    everywhere = set.intersection(*(set(table) for table in tables)) if tables else set()
    found = {}
    for name in dict.fromkeys(n for table in tables for n in table if n not in everywhere):
        there = [table[name] for table in tables if name in table]
        if all(map(is_constant, there)):
            found[name] = CONSTANT
        elif COPIES.fullmatch(name) and all(_is_copy(name, c) for c in checkpoints):
            found[name] = COPY
    return found


def _is_copy(name: str, checkpoint: Checkpoint) -> bool:
    """Whether a tensor, where it is there at all, is the embedding of tokens once more."""
    tensors = model_tensors(checkpoint)
    own = next((tensor for tensor in tensors if tensor.name == name), None)
    embedding = find_embedding(tensors)
    shares = checkpoint.config.get("model_type") in SHARING and name.endswith(SHARED)
    if not (shares or is_tied(checkpoint.config)) or embedding is None:
        return False
    return own is None or own.shape == embedding.shape


def is_constant(tensor: TensorSpec) -> bool:
    """Whether a model computes this tensor itself, by its name and shape."""
    if CONSTANTS.fullmatch(tensor.name):
        return True
    shape = tensor.shape
    is_square = len(shape) == 4 and shape[:2] == (1, 1) and shape[2] == shape[3]
    return is_square and MASKS.fullmatch(tensor.name) is not None


def find_embedding(tensors: Sequence[TensorSpec]) -> TensorSpec | None:
    """The embedding of tokens; None where no tensor, or more than one, is called like one."""
    named = [t for t in tensors if EMBEDDING.fullmatch(t.name)]
    # OPT has its only one in the decoder, where other kinds have a copy.
    found = [t for t in named if not COPIES.fullmatch(t.name)] or named
    return found[0] if len(found) == 1 else None
