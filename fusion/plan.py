"""What a merge reads, computes and writes, as one value: printed, hashed, compared, resumed."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class SourceTensor:
    """Where one input of an output tensor lies.

    Attributes:
        checkpoint: index into `MergeRequest.checkpoints`.
        shard: file name inside that checkpoint.
        start: byte offset of the first element in that file.
        dtype: safetensors name.
    """

    checkpoint: int
    shard: str
    start: int
    dtype: str


@dataclass(frozen=True, slots=True)
class TensorRequest:
    """One output tensor and how it is made.

    Attributes:
        name: as written.
        shape: of the output and of every source.
        dtype: of the output.
        work_dtype: inputs are cast to it on load and the result is rounded to it, then to `dtype`.
        method: a name of METHODS; "copy" for tensors that must be equal everywhere.
        weights: one a source.
        normalize: divide by the sum of the weights.
        sources: in the order in which terms are added.
    """

    name: str
    shape: tuple[int, ...]
    dtype: str
    work_dtype: str
    method: str
    weights: tuple[float, ...]
    normalize: bool
    sources: tuple[SourceTensor, ...]
