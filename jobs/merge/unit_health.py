"""What a worker notes about the values of a unit while they are in its cache."""

from collections.abc import Sequence

import torch

from fusion.methods import TORCH_DTYPES
from fusion.methods.block_sums import block_sums, make_scratch
from fusion.plans.health import BLOCK_ELEMENTS, HealthMode, PieceSums, add_exactly, is_sampled, kept
from fusion.plans.plan import TensorRequest
from jobs.merge.chunks import Chunk


class UnitHealth:
    """Sums of one unit at a time, a piece a tensor; scratch memory lives as long as the worker.

    Chunks end where blocks of their tensor end, or where the unit does: so what is summed at once
    depends on the plan alone, and neither on chunk sizes nor on who computes which unit.
    """

    def __init__(self, mode: HealthMode) -> None:
        self._mode = mode
        self._scratch = make_scratch()
        self._pieces: dict[str, _Piece] = {}

    def begin(self) -> None:
        """Forget the unit before."""
        self._pieces = {}

    def add(
        self, chunk: Chunk, inputs: Sequence[torch.Tensor], out: torch.Tensor, largest: float
    ) -> None:
        """Look at a computed chunk.

        Args:
            chunk: the chunk that `inputs` and `out` hold; elements of the unit before are not
                counted again.
            inputs: n tensors [e] of finite values.
            out: [e] result in the output's dtype.
            largest: largest magnitude of the result before it was rounded to the output's dtype.
        """
        tensor = chunk.placed.tensor
        piece = self._pieces.get(tensor.name)
        if piece is None:
            piece = self._pieces[tensor.name] = _Piece(tensor)
        piece.num_elements += chunk.last - chunk.first - chunk.skipped
        piece.largest = max(piece.largest, largest)
        first = chunk.first + chunk.skipped
        while first < chunk.last:
            block = first // BLOCK_ELEMENTS
            last = min(chunk.last, (block + 1) * BLOCK_ELEMENTS)
            if is_sampled(tensor.name, block, self._mode):
                piece.num_sampled += last - first
                place = slice(first - chunk.first, last - chunk.first)
                parts = [values[place] for values in inputs]
                piece.note(block_sums(out[place], parts, self._scratch))
            first = last

    def sums(self) -> tuple[PieceSums, ...]:
        """The unit's pieces in file order."""
        return tuple(piece.sums() for piece in self._pieces.values())


class _Piece:
    """Sums of the blocks of a piece so far."""

    def __init__(self, tensor: TensorRequest) -> None:
        self.num_elements = 0
        self.num_sampled = 0
        self.largest = 0.0
        self._tensor = tensor
        self._blocks: list[list[float]] = [[] for _ in range(1 + 2 * len(tensor.sources))]

    def note(self, sums: Sequence[float]) -> None:
        for terms, term in zip(self._blocks, sums, strict=True):
            terms.append(kept(term))

    def sums(self) -> PieceSums:
        # Rounding keeps order, so the largest after rounding is the largest rounded.
        exact = torch.tensor(self.largest, dtype=torch.float64)
        rounded = exact.to(TORCH_DTYPES[self._tensor.work_dtype])
        totals = [add_exactly(terms) for terms in self._blocks]
        return PieceSums(
            tensor=self._tensor.name,
            num_elements=self.num_elements,
            num_sampled=self.num_sampled,
            absmax=float(rounded.to(TORCH_DTYPES[self._tensor.dtype])),
            output=totals[0],
            sources=tuple(totals[1::2]),
            dots=tuple(totals[2::2]),
        )
