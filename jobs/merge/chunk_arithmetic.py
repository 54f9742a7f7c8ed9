"""The result of one chunk: the arithmetic of a merge, and what is refused while it is done."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch

from fusion.checkpoints.checkpoint import Checkpoint
from fusion.dtypes import ITEM_BYTES
from fusion.errors import IntegerError, NonFiniteError
from fusion.methods import METHODS, TORCH_DTYPES
from fusion.methods.adapters import concatenate
from fusion.plans.method_specs import CONCATENATE, COPY
from fusion.plans.plan import MergePlan
from fusion.plans.sources import SourceTensor
from jobs.merge.adapted_inputs import AdaptedInputs
from jobs.merge.chunks import Chunk, ReadChunk
from jobs.merge.memory import output_bytes


@dataclass(frozen=True, slots=True, eq=False)
class ChunkResult:
    """A computed chunk, valid until the next one is computed.

    Attributes:
        made: bytes of the chunk's elements in the output dtype.
        inputs: one tensor [e] for each source.
        largest: largest magnitude of the result before the last rounding; 0.0 for a copy.
    """

    made: memoryview
    inputs: Sequence[torch.Tensor]
    largest: float


class ChunkArithmetic:
    """Computes chunks of one plan; keeps buffers between them. Used by one thread at a time."""

    def __init__(self, plan: MergePlan, chunk_bytes: int, device: str = "cpu") -> None:
        self._plan = plan
        self._device = device
        self._inputs = AdaptedInputs()
        # Sources of few bytes an element may feed an output of more.
        self._out = bytearray(output_bytes(plan, chunk_bytes))

    def compute(self, read: ReadChunk) -> ChunkResult:
        """The result of a chunk that was read.

        Raises:
            IntegerError: whole numbers that differ between sources, or truth values that are none.
            NonFiniteError: a NaN or an infinity in a source, or a result beyond the output dtype.
        """
        chunk = read.chunk
        tensor = chunk.placed.tensor
        inputs = self._inputs.fill(read)
        if tensor.method == COPY:
            self._check_equal(chunk, inputs)
            self._check_bools(chunk, read.inputs[0])
            return ChunkResult(read.inputs[0], inputs, 0.0)
        made = memoryview(self._out)[: (chunk.last - chunk.first) * ITEM_BYTES[tensor.dtype]]
        return ChunkResult(made, inputs, self._compute(chunk, inputs, made))

    def _compute(self, chunk: Chunk, inputs: Sequence[torch.Tensor], made: memoryview) -> float:
        """Fill `made` with the result of the chunk; returns its largest magnitude."""
        tensor = chunk.placed.tensor
        out = torch.frombuffer(made, dtype=TORCH_DTYPES[tensor.dtype])
        if tensor.method == CONCATENATE:
            largest = concatenate(tensor, inputs, chunk.first, out)
        elif self._device != "cpu":
            inputs = [x.to(self._device) for x in inputs]
            result = out.to(self._device)
            largest = METHODS[tensor.method](tensor, inputs, result)
            out.copy_(result)
        else:
            largest = METHODS[tensor.method](tensor, inputs, out)
        self._check_finite(chunk, inputs, out, largest)
        return largest

    def _check_equal(self, chunk: Chunk, inputs: Sequence[torch.Tensor]) -> None:
        for source, other in zip(chunk.placed.tensor.sources, inputs, strict=True):
            if not torch.equal(other, inputs[0]):
                index = chunk.first + int((other != inputs[0]).nonzero()[0])
                first = self._name(chunk.placed.tensor.sources[0])
                raise IntegerError(
                    f"{chunk.placed.tensor.name} ({source.dtype}) differs between {first} and "
                    f"{self._name(source)}, first at element {index}; whole numbers cannot be "
                    "averaged. Nothing was published.",
                    "leave one of them out, or export them with the same buffers",
                )

    def _check_bools(self, chunk: Chunk, made: memoryview) -> None:
        """Only bytes 0 and 1 are truth values; what others do is undefined."""
        tensor = chunk.placed.tensor
        if tensor.dtype == "BOOL" and bytes(made).translate(None, b"\0\1"):
            raise IntegerError(
                f"{tensor.name} (BOOL) of {self._name(tensor.sources[0])} has bytes other than 0 "
                "and 1. Nothing was published.",
                "export it again; it was not written by a library that knows the format",
            )

    def _check_finite(
        self, chunk: Chunk, inputs: Sequence[torch.Tensor], out: torch.Tensor, largest: float
    ) -> None:
        if math.isfinite(largest) and (
            largest < torch.finfo(out.dtype).max or bool(torch.isfinite(out).all())
        ):
            return
        tensor = chunk.placed.tensor
        self._inputs.check_bases(chunk, self._plan.request.checkpoints)
        for source, values in zip(tensor.sources, inputs, strict=True):
            bad = int((~torch.isfinite(values)).sum())
            if bad:
                raise NonFiniteError(
                    f"{tensor.name} of {self._name(source)} has {bad} NaN or infinite values "
                    f"among elements {chunk.first} to {chunk.last}. Nothing was published.",
                    f"leave {self._name(source)} out, or set merge.on_nonfinite: "
                    "exclude_and_reweight",
                    self._name(source),
                    tensor.name,
                )
        wider = "float64" if tensor.dtype in ("F32", "F64") else "float32"
        raise NonFiniteError(
            f"{tensor.name}: the average reaches {largest:.3g}, more than {tensor.dtype} holds. "
            "Nothing was published.",
            f"set merge.dtype: {wider}, or give weights that are smaller and of one sign",
            "",
            tensor.name,
        )

    def _name(self, source: SourceTensor) -> str:
        checkpoint: Checkpoint = self._plan.request.checkpoints[source.owner]
        return checkpoint.name
