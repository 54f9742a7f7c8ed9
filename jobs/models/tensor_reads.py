"""Tensors of a pinned checkpoint into memory: ranged reads side by side, each looked at at once."""

import contextlib
import math
import threading
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import torch

from cluster.errors import NotFoundError, PreconditionError
from cluster.stores.open_readers import OpenReaders
from cluster.stores.open_store import open_store
from cluster.stores.store import Reader
from fusion.checkpoints.checkpoint import Checkpoint, PinnedFile, TensorSpec
from fusion.dtypes import FLOATS, ITEM_BYTES
from fusion.errors import NonFiniteError
from fusion.methods.contract import TORCH_DTYPES
from jobs.candidates.changes import changed

# A range from a disk stays in the cache until it was looked at; from S3 8 to 16 MiB a request.
LOCAL_PIECE_BYTES = 1 << 20
REMOTE_PIECE_BYTES = 8 << 20
LOCAL_THREADS = 4
REMOTE_THREADS = 8
OPEN_FILES = 16  # spans come in file order: a shard that was left is not asked for again


@dataclass(frozen=True, slots=True, eq=False)
class ReadTensors:
    """All tensors of a checkpoint, and what they look like.

    Attributes:
        tensors: tensors by the name on disk; floating ones in float32, the others as they are
            stored.
        largest: largest magnitude of any element before it was rounded to float32.
        where: name of the tensor that holds the largest magnitude.
    """

    tensors: Mapping[str, torch.Tensor]
    largest: float
    where: str


@dataclass(frozen=True, slots=True)
class Extremes:
    """What was seen of one tensor, or of a part of it.

    Attributes:
        num_bad: number of elements that are NaN or infinite.
        largest: largest magnitude; 0.0 where an element is NaN or infinite.
    """

    num_bad: int = 0
    largest: float = 0.0

    def with_part(self, part: "Extremes") -> "Extremes":
        """This and another part of the tensor."""
        return Extremes(self.num_bad + part.num_bad, max(self.largest, part.largest))


@dataclass(frozen=True, slots=True)
class Stretch:
    """Elements [first, last) of a tensor."""

    spec: TensorSpec
    first: int
    last: int

    @property
    def start(self) -> int:
        """First byte in the shard."""
        return self.spec.start + self.first * ITEM_BYTES[self.spec.dtype]

    @property
    def end(self) -> int:
        """Byte after the last one in the shard."""
        return self.spec.start + self.last * ITEM_BYTES[self.spec.dtype]


Span = tuple[Stretch, ...]  # parts side by side in one shard: one ranged read


def read_tensors(checkpoint: Checkpoint, device: torch.device) -> ReadTensors:
    """Read all tensors of a whole checkpoint under its pins.

    In memory are the tensors as they are returned, and a piece of 1 MiB (from S3 8 MiB) a thread;
    on another device than the CPU only the pieces are in main memory.

    Raises:
        NonFiniteError: a NaN or an infinity in a tensor.
        SourceChangedError: a file is no longer the pinned one.
    """
    store = open_store(checkpoint.uri)
    piece_bytes = REMOTE_PIECE_BYTES if store.is_remote else LOCAL_PIECE_BYTES
    threads = REMOTE_THREADS if store.is_remote else LOCAL_THREADS
    targets = {spec.name: empty_like(spec, device) for spec in checkpoint.tensors}
    seen = dict.fromkeys(targets, Extremes())
    with contextlib.ExitStack() as stack:
        reader = TensorReader(checkpoint, targets, piece_bytes)
        stack.callback(reader.close)
        pool = stack.enter_context(ThreadPoolExecutor(threads, thread_name_prefix="tensors"))
        spans = cut_spans(checkpoint.tensors, piece_bytes)
        for span, found in zip(spans, pool.map(reader.read, spans), strict=True):
            for part, one in zip(span, found, strict=True):
                seen[part.spec.name] = seen[part.spec.name].with_part(one)
    return ReadTensors(targets, *find_largest(checkpoint.name, checkpoint.tensors, seen))


def empty_like(spec: TensorSpec, device: torch.device) -> torch.Tensor:
    """Room for a tensor: float32 where it is floating, else the dtype of the file."""
    dtype = torch.float32 if spec.dtype in FLOATS else TORCH_DTYPES[spec.dtype]
    return torch.empty(spec.shape, dtype=dtype, device=device)


def cut_spans(specs: Iterable[TensorSpec], piece_bytes: int) -> list[Span]:
    """Ranges of at most `piece_bytes` that cover all tensors, in file order.

    Large tensors are split between elements; small ones that are neighbours share a range, as far
    as each begins at a multiple of its own element size in it.
    """
    spans: list[Span] = []
    gathered: list[Stretch] = []
    for spec in sorted(specs, key=lambda spec: (spec.shard, spec.start)):
        count, step = math.prod(spec.shape), piece_bytes // ITEM_BYTES[spec.dtype]
        for first in range(0, count, step):
            part = Stretch(spec, first, min(count, first + step))
            if gathered and not _fits(gathered, part, piece_bytes):
                spans.append(tuple(gathered))
                gathered = []
            gathered.append(part)
    return [*spans, tuple(gathered)] if gathered else spans


def look_at(values: torch.Tensor) -> Extremes:
    """Bad elements and the largest magnitude of floating values [e], in their own dtype."""
    if not values.is_floating_point() or values.numel() == 0:
        return Extremes()
    least, most = (float(bound) for bound in torch.aminmax(values))
    if math.isfinite(least) and math.isfinite(most):
        return Extremes(0, max(-least, most))
    return Extremes(int((~torch.isfinite(values)).sum()))


def find_largest(
    name: str, specs: Sequence[TensorSpec], seen: Mapping[str, Extremes]
) -> tuple[float, str]:
    """The largest magnitude and the first tensor that has it, by shard and name.

    Args:
        name: name of the checkpoint.
        specs: tensors of the checkpoint.
        seen: extremes of each tensor, by name.

    Raises:
        NonFiniteError: names the first tensor with a NaN or an infinity.
    """
    largest, where = 0.0, ""
    for spec in sorted(specs, key=lambda spec: (spec.shard, spec.name)):
        found = seen[spec.name]
        if found.num_bad:
            raise NonFiniteError(
                f"{spec.name} of {name} has {found.num_bad} NaN or infinite values of "
                f"{math.prod(spec.shape):,}",
                "",
                name,
                spec.name,
            )
        if found.largest > largest:
            largest, where = found.largest, spec.name
    return largest, where


class TensorReader:
    """Open shards of one checkpoint, and a buffer a thread. Safe between threads."""

    def __init__(
        self, checkpoint: Checkpoint, targets: Mapping[str, torch.Tensor], piece_bytes: int
    ) -> None:
        self._store = open_store(checkpoint.uri)
        self._files = {shard.name: shard for shard in checkpoint.shards}
        self._targets = targets
        self._piece_bytes = piece_bytes
        self._readers = OpenReaders(OPEN_FILES)
        self._own = threading.local()

    def read(self, span: Span) -> list[Extremes]:
        """Fill the parts of a span; returns what was seen of each.

        Float32 that is read for the CPU goes straight to where it stays.
        """
        target = self._targets[span[0].spec.name]
        if len(span) == 1 and span[0].spec.dtype == "F32" and target.device.type == "cpu":
            values = target.view(-1)[span[0].first : span[0].last]
            self._read_range(span, values.numpy().data.cast("B"))
            return [look_at(values)]
        view = self._buffer()[: span[-1].end - span[0].start]
        self._read_range(span, view)
        return [self._take(part, view[part.start - span[0].start :]) for part in span]

    def close(self) -> None:
        """Let go of the shards."""
        self._readers.close()

    def _take(self, part: Stretch, view: memoryview) -> Extremes:
        count, dtype = part.last - part.first, TORCH_DTYPES[part.spec.dtype]
        values = torch.frombuffer(view, dtype=dtype, count=count)
        self._targets[part.spec.name].view(-1)[part.first : part.last].copy_(values)
        return look_at(values)

    def _buffer(self) -> memoryview:
        if not hasattr(self._own, "buffer"):
            self._own.buffer = memoryview(bytearray(self._piece_bytes))
        found: memoryview = self._own.buffer
        return found

    def _read_range(self, span: Span, view: memoryview) -> None:
        file = self._files[span[0].spec.shard]
        try:
            with self._readers.use(file.name, lambda: self._open(file)) as reader:
                reader.read_into(view, start=span[0].start)
        except (PreconditionError, NotFoundError):
            raise changed(self._store, file.name, file.pin) from None

    def _open(self, file: PinnedFile) -> Reader:
        return self._store.open_reader(file.name, if_match=file.pin.etag, version=file.pin.version)


def _fits(gathered: Sequence[Stretch], part: Stretch, piece_bytes: int) -> bool:
    first, last = gathered[0], gathered[-1]
    return (
        part.spec.shard == last.spec.shard
        and part.start == last.end
        and part.end - first.start <= piece_bytes
        and (part.start - first.start) % ITEM_BYTES[part.spec.dtype] == 0
    )
