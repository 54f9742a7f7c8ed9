"""One merge worker: a unit in, its bytes and its record out."""

import contextlib
import logging
import math
import threading
import time
from collections.abc import Sequence

import torch

from cluster.errors import AwayError
from cluster.stores.open_store import open_store
from cluster.stores.store import PartWriter
from cluster.workers.process_memory import peak_bytes
from cluster.workers.runner import this_worker
from fusion.checkpoints.checkpoint import Checkpoint
from fusion.dtypes import ITEM_BYTES
from fusion.errors import IntegerError, NonFiniteError
from fusion.methods import METHODS, TORCH_DTYPES
from fusion.methods.adapters import concatenate
from fusion.methods.probe import digest_arithmetic
from fusion.plans.method_specs import CONCATENATE, COPY
from fusion.plans.plan import MergeUnit
from fusion.plans.sources import SourceTensor
from jobs.merge.adapted_inputs import AdaptedInputs
from jobs.merge.chunks import Chunk, ChunkReader, ReadChunk
from jobs.merge.job import MergeJob, UnitOrder
from jobs.merge.ledger import Ledger, UnitRecord
from jobs.merge.memory import output_bytes
from jobs.merge.unit_health import UnitHealth

# PyTorch's setting is the process's: workers on threads of one process share it.
THREADS_LOCK = threading.Lock()
log = logging.getLogger(__name__)
# The retries of a request are over within two seconds; a server takes longer to come back.
OUTAGE_TRIES = 20
OUTAGE_PAUSE_SECONDS = 3.0


class MergeWorker:
    """Computes units of one job, one at a time; buffers and open files live as long as it does."""

    def __init__(self, job: MergeJob) -> None:
        with THREADS_LOCK:
            torch.set_num_threads(1)
        self._job = job
        self._arithmetic = digest_arithmetic(job.device)
        self._output = open_store(job.output)
        self._ledger = Ledger(self._output, job.ledger)
        self._reader = ChunkReader(job.plan, job.memory, known_digests=job.known_digests)
        self._inputs = AdaptedInputs()
        self._health = UnitHealth(job.health)
        # Sources of few bytes an element may feed an output of more.
        self._out = bytearray(output_bytes(job.plan, job.memory.chunk_bytes))

    def __call__(self, order: UnitOrder) -> UnitRecord:
        """Compute one unit, write its bytes, note it in the ledger.

        A store that is away for about a minute, as while it restarts, is waited for.
        """
        for _ in range(OUTAGE_TRIES):
            with contextlib.suppress(AwayError):
                return self._do(order)
            time.sleep(OUTAGE_PAUSE_SECONDS)
        return self._do(order)

    def _do(self, order: UnitOrder) -> UnitRecord:
        started = time.monotonic()
        job, unit = self._job, order.unit
        shard = job.plan.shards[unit.shard]
        upload = self._output.resume_upload(
            f"{job.model}/{shard.name}", order.upload, size=shard.size
        )
        self._health.begin()
        writer = upload.start_part(
            unit.number, offset=unit.start, size=unit.end - unit.start, with_sha256=job.with_sha256
        )
        try:
            writer.append(memoryview(shard.header)[unit.start : unit.end])
            largest = 0.0
            for read in self._reader.read(unit):
                largest = _larger(largest, self._write(read, unit, writer))
            part = writer.finish()
        finally:
            writer.discard()
        record = UnitRecord(
            unit=unit.id,
            upload=order.upload,
            number=part.number,
            offset=part.offset,
            size=part.size,
            etag=part.etag,
            crc64nvme=part.crc64nvme,
            sha256=part.sha256,
            read_bytes=self._reader.seen.read_bytes,
            seconds=time.monotonic() - started,
            peak_bytes=peak_bytes(),
            largest=largest,
            worker=this_worker(),
            reads=self._reader.seen.ranges,
            health=self._health.sums(),
            arithmetic=self._arithmetic,
        )
        self._ledger.write(record, upload=upload)
        _log_unit(record)
        return record

    def _write(self, read: ReadChunk, unit: MergeUnit, writer: PartWriter) -> float:
        """Compute a chunk and append what of it belongs to the unit."""
        chunk = read.chunk
        tensor = chunk.placed.tensor
        item = ITEM_BYTES[tensor.dtype]
        start = chunk.placed.start + chunk.first * item
        end = chunk.placed.start + chunk.last * item
        low, high = max(start, unit.start), min(end, unit.end)
        inputs = self._inputs.fill(read)
        largest = 0.0
        if tensor.method == COPY:
            self._check_equal(chunk, inputs)
            made = read.inputs[0]
            self._check_bools(chunk, made)
        else:
            made = memoryview(self._out)[: end - start]
            largest = self._compute(chunk, inputs, made)
            if tensor.method in METHODS:
                out = torch.frombuffer(made, dtype=TORCH_DTYPES[tensor.dtype])
                self._health.add(chunk, inputs, out, largest)
        writer.append(made[low - start : high - start])
        return largest

    def _compute(self, chunk: Chunk, inputs: Sequence[torch.Tensor], made: memoryview) -> float:
        """Fill `made` with the result of the chunk; returns its largest magnitude."""
        tensor = chunk.placed.tensor
        out = torch.frombuffer(made, dtype=TORCH_DTYPES[tensor.dtype])
        if tensor.method == CONCATENATE:
            largest = concatenate(tensor, inputs, chunk.first, out)
        elif self._job.device != "cpu":
            inputs = [x.to(self._job.device) for x in inputs]
            result = out.to(self._job.device)
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
        self._inputs.check_bases(chunk, self._job.plan.request.checkpoints)
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
        raise NonFiniteError(
            f"{tensor.name}: the average reaches {largest:.3g}, more than {tensor.dtype} holds. "
            "Nothing was published.",
            "set merge.dtype: float32",
            "",
            tensor.name,
        )

    def _name(self, source: SourceTensor) -> str:
        checkpoint: Checkpoint = self._job.plan.request.checkpoints[source.owner]
        return checkpoint.name


def _log_unit(record: UnitRecord) -> None:
    sizes = {"bytes": record.size, "read_bytes": record.read_bytes}
    seconds = {"seconds": round(record.seconds, 3)}
    log.info("unit written", extra={"unit": record.unit, **sizes, **seconds})


def _larger(known: float, found: float) -> float:
    """The larger one, nan if either is."""
    return math.nan if math.isnan(known) or math.isnan(found) else max(known, found)
