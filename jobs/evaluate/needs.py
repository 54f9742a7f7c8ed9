"""What an evaluation needs in memory and on disk, known before a tensor is read. No torch here."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from fusion.checkpoints.checkpoint import Checkpoint, model_tensors
from fusion.dtypes import FLOATS, tensor_bytes

# A process that has imported torch, transformers with a model's code, and pyarrow: 490 MiB
# measured, 60 of them mapped or not by how the kernel reads ahead; Ray's worker adds 60, pieces on
# their way from S3 64, and what else transformers finds installed and imports, some more.
EVALUATION_FLOOR = 700 << 20
LOADED_BYTES = 4  # of a floating element, whatever the file has
# The table of the file and its columns as lists: measured 3.4 bytes a byte of long texts and 510
# bytes a row of short ones, beside the file itself.
TEXT_FACTOR = 4
ROW_BYTES = 600
# Of a forward pass, in copies of the widest layer's output for a batch: measured 4.2 to 4.7 for
# BERT and 9.8 for GPT-2, whose activation function is written out in single operations.
WIDE_COPIES: Mapping[str, int] = {"gpt2": 11}
WIDE_COPIES_OF_OTHERS = 6


@dataclass(frozen=True, slots=True)
class DataSize:
    """How large evaluation data is for the process that reads it.

    Attributes:
        memory_bytes: bytes of the data in memory.
        batch_tokens: about how many tokens the largest batch has.
    """

    memory_bytes: int = 0
    batch_tokens: int = 0


def measure_data(
    texts: Sequence[str], *, file_bytes: int, batch_size: int, longest: int
) -> DataSize:
    """The size of data that was read once, from its texts.

    Args:
        texts: text of each example.
        file_bytes: size of the file.
        batch_size: number of examples of a forward pass.
        longest: number of tokens that a model reads of the longest text.
    """
    text_bytes = sum(len(text.encode(errors="replace")) for text in texts)
    memory_bytes = file_bytes + TEXT_FACTOR * text_bytes + ROW_BYTES * len(texts)
    return DataSize(memory_bytes, longest * min(batch_size, len(texts)))


def evaluation_memory(checkpoint: Checkpoint, data: DataSize) -> int:
    """Bytes of the process that evaluates a checkpoint on the CPU: at most, and at least half.

    They are one model in float32 and its forward pass, the data, and what every process has.
    """
    tensors = model_tensors(checkpoint)
    model = sum(
        math.prod(spec.shape) * LOADED_BYTES
        if spec.dtype in FLOATS
        else tensor_bytes(spec.dtype, spec.shape)
        for spec in tensors
    )
    return EVALUATION_FLOOR + model + data.memory_bytes + _forward_bytes(checkpoint, data)


def evaluation_disk(checkpoint: Checkpoint) -> int:
    """Bytes that an evaluation writes to a temporary folder: the side files."""
    source = checkpoint if checkpoint.adapter is None else checkpoint.adapter.base
    return sum(file.pin.size for file in source.side_files)


def _forward_bytes(checkpoint: Checkpoint, data: DataSize) -> int:
    copies = WIDE_COPIES.get(str(checkpoint.config.get("model_type")), WIDE_COPIES_OF_OTHERS)
    return copies * data.batch_tokens * _widest(checkpoint) * LOADED_BYTES


def _widest(checkpoint: Checkpoint) -> int:
    """Outputs of the widest layer: the longer side of matrices, vocabularies left out."""
    vocabulary = checkpoint.config.get("vocab_size")
    matrices = [spec.shape for spec in model_tensors(checkpoint) if len(spec.shape) == 2]
    return max((max(shape) for shape in matrices if vocabulary not in shape), default=0)
