"""Factors of adapters, read once a piece of a tensor: all of A, and of B the rows of the piece."""

from collections.abc import Callable, Mapping
from concurrent.futures import Future
from dataclasses import dataclass, field

from fusion.plans.plan import Piece
from fusion.plans.sources import FactorRange, factor_ranges

# read_range(checkpoint, shard, start, view) fills the view.
ReadRange = Callable[[int, str, int, memoryview], None]
Submit = Callable[..., Future[None]]


@dataclass(frozen=True, slots=True, eq=False)
class FactorBytes:
    """What was read of A and B for one source."""

    ranges: tuple[FactorRange, FactorRange]
    a: memoryview
    b: memoryview


@dataclass(frozen=True, slots=True, eq=False)
class PieceFactors:
    """Factors of one piece by source, being read."""

    piece: Piece | None = None
    reads: list[Future[None]] = field(default_factory=list)
    by_source: dict[int, FactorBytes] = field(default_factory=dict)

    def wait(self) -> Mapping[int, FactorBytes]:
        """The factors, when all are there."""
        for read in self.reads:
            read.result()
        return self.by_source


class FactorReader:
    """Asks for the factors of a piece when its first chunk is asked for."""

    def __init__(self, read_range: ReadRange) -> None:
        self._read_range = read_range
        self._last = PieceFactors()

    def ask(self, piece: Piece, *, submit: Submit) -> PieceFactors:
        """The factors of a piece, on their way."""
        if self._last.piece is piece:
            return self._last
        asked = PieceFactors(piece)
        for index, source in enumerate(piece.placed.tensor.sources):
            if source.added is None:
                continue
            ranges = factor_ranges(source.added, piece.first, piece.last)
            views = [memoryview(bytearray(part.size)) for part in ranges]
            asked.by_source[index] = FactorBytes(ranges, *views)
            asked.reads.extend(
                submit(self._read_range, source.added.checkpoint, part.factor.shard, part.start, v)
                for part, v in zip(ranges, views, strict=True)
            )
        self._last = asked
        return asked


def read_at_once(read_range: ReadRange, *place: object) -> Future[None]:
    """Read now, for readers that do not read ahead."""
    done: Future[None] = Future()
    read_range(*place)  # type: ignore[arg-type]  # what `ask` hands on
    done.set_result(None)
    return done
