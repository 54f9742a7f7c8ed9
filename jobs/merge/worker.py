"""One merge worker: a unit in, its bytes and its record out."""

import logging
import math
import threading
import time

import torch

from cluster.stores.open_store import open_store
from cluster.stores.outage import waited_out
from cluster.stores.store import PartWriter
from cluster.workers.process_memory import peak_bytes
from cluster.workers.runner import this_worker
from fusion.dtypes import ITEM_BYTES
from fusion.methods import METHODS, TORCH_DTYPES
from fusion.methods.probe import digest_arithmetic
from fusion.plans.plan import MergeUnit
from jobs.merge.chunk_arithmetic import ChunkArithmetic
from jobs.merge.chunks import ChunkReader, ReadChunk
from jobs.merge.job import MergeJob, UnitOrder
from jobs.merge.ledger import Ledger, UnitRecord
from jobs.merge.unit_health import UnitHealth

# PyTorch's setting is the process's: workers on threads of one process share it.
THREADS_LOCK = threading.Lock()
log = logging.getLogger(__name__)


class MergeWorker:
    """Computes units of one job, one at a time; buffers and open files live as long as it does."""

    def __init__(self, job: MergeJob) -> None:
        with THREADS_LOCK:
            torch.set_num_threads(1)
        self._job = job
        self._probe = digest_arithmetic(job.device)
        self._output = open_store(job.output)
        self._ledger = Ledger(self._output, job.ledger)
        self._reader = ChunkReader(job.plan, job.memory, known_crcs=job.known_crcs)
        self._arithmetic = ChunkArithmetic(job.plan, job.memory.chunk_bytes, job.device)
        self._health = UnitHealth(job.health)

    def __call__(self, order: UnitOrder) -> UnitRecord:
        """Compute one unit, write its bytes, note it in the ledger.

        A store that is away for about a minute, as while it restarts, is waited for.
        """
        return waited_out(lambda: self._do(order), self._job.patience.outage_pause)

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
            arithmetic=self._probe,
        )
        self._ledger.write(record, upload=upload)
        _log_unit(record)
        return record

    def _write(self, read: ReadChunk, unit: MergeUnit, writer: PartWriter) -> float:
        """Compute a chunk and append the part of it that belongs to the unit."""
        chunk = read.chunk
        tensor = chunk.placed.tensor
        item = ITEM_BYTES[tensor.dtype]
        start = chunk.placed.start + chunk.first * item
        end = chunk.placed.start + chunk.last * item
        low, high = max(start, unit.start), min(end, unit.end)
        result = self._arithmetic.compute(read)
        if tensor.method in METHODS:
            out = torch.frombuffer(result.made, dtype=TORCH_DTYPES[tensor.dtype])
            self._health.add(chunk, result.inputs, out, result.largest)
        writer.append(result.made[low - start : high - start])
        return result.largest


def _log_unit(record: UnitRecord) -> None:
    sizes = {"bytes": record.size, "read_bytes": record.read_bytes}
    seconds = {"seconds": round(record.seconds, 3)}
    log.info("unit written", extra={"unit": record.unit, **sizes, **seconds})


def _larger(known: float, found: float) -> float:
    """The larger one, nan if either is."""
    return math.nan if math.isnan(known) or math.isnan(found) else max(known, found)
