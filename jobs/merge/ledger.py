"""Which units of a merge are done: one small record a unit, kept beside the run.

A record counts when it names the shard's current upload and the store confirms the part. So a
merge can be taken up by any driver with any number of workers, and never redoes more than what was
in flight.
"""

import contextlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from cluster.digests import CrcKind, RunningDigest, combine_crc64nvme
from cluster.errors import NotFoundError, PreconditionError
from cluster.stores.settled import read_settled
from cluster.stores.store import ObjectInfo, Part, Store, Upload
from fusion.canonical import from_json, to_json
from fusion.errors import ManifestError
from fusion.plans.health import PieceSums
from fusion.plans.plan import MergePlan, MergeUnit

READ_BYTES = 4 << 20


@dataclass(frozen=True, slots=True)
class SourceRead:
    """A range of a source that a unit read, and the CRC of what arrived: its kind, its digits."""

    checkpoint: int
    shard: str
    start: int
    size: int
    kind: CrcKind
    digits: str

    @classmethod
    def from_older(cls, stored: object) -> object:
        """What 0.1 stored, which knew CRC64NVME alone."""
        if not isinstance(stored, Mapping) or "crc64nvme" not in stored:
            return stored
        rest = {key: value for key, value in stored.items() if key != "crc64nvme"}
        return {**rest, "kind": "crc64nvme", "digits": stored["crc64nvme"]}


@dataclass(frozen=True, slots=True)
class UnitRecord:
    """What a worker leaves after the bytes of a unit.

    Attributes:
        unit: id of the unit, such as 00001-00003.
        upload: id of the upload that the part belongs to.
        number: number of the part in the upload.
        offset: byte offset of the part in the shard.
        size: bytes of the part.
        etag: etag of the part.
        crc64nvme: CRC64NVME of the part's bytes.
        sha256: sha256 of the part's bytes; "" where it was not computed.
        read_bytes: tensor bytes read from the sources.
        seconds: seconds from the first read to the last byte written.
        peak_bytes: largest resident memory of the worker so far, in bytes.
        largest: largest magnitude among the unit's values.
        worker: worker that wrote the part, host/process.
        reads: ranges that were read from sources of which a CRC is known.
        health: sums over the values of the tensors that the unit computed.
        arithmetic: digest of the arithmetic probe on the worker's host; "" where it was not asked.
    """

    unit: str
    upload: str
    number: int
    offset: int
    size: int
    etag: str
    crc64nvme: str
    sha256: str
    read_bytes: int
    seconds: float
    peak_bytes: int
    largest: float
    worker: str
    reads: tuple[SourceRead, ...] = ()
    health: tuple[PieceSums, ...] = ()
    arithmetic: str = ""

    @property
    def shard(self) -> int:
        """Index of the output shard."""
        return int(self.unit.partition("-")[0]) - 1

    @property
    def counts(self) -> dict[str, int]:
        """What it adds to counters."""
        return {"units": 1, "read_bytes": self.read_bytes, "written_bytes": self.size}

    @property
    def part(self) -> Part:
        """The part that the store is asked about."""
        return Part(self.number, self.offset, self.size, self.etag, self.crc64nvme, self.sha256)


@dataclass(frozen=True, slots=True)
class UploadRecord:
    """Which upload the units of a shard are written to."""

    upload: str


@dataclass(frozen=True, slots=True)
class ShardState:
    """How far one output shard is.

    Attributes:
        upload: id of the upload that new parts go to.
        records: records of confirmed units, by part number.
        is_complete: whether the whole object is there under its key.
    """

    upload: str
    records: Mapping[int, UnitRecord]
    is_complete: bool


@dataclass(frozen=True, slots=True)
class PlannedUnits:
    """`units.plan` in a ledger's folder: it tells readers such as `status` how much there is to do.

    Attributes:
        unit_bytes: bytes of every unit but the last of a shard.
        shard_bytes: bytes of each output shard.
    """

    unit_bytes: int
    shard_bytes: tuple[int, ...]

    @property
    def num_units(self) -> int:
        """Of all shards."""
        return sum(-(-size // self.unit_bytes) for size in self.shard_bytes)

    def bytes_of(self, unit: str) -> int:
        """Size of a unit by its id, such as 00001-00003; 0 for a unit that is not planned."""
        shard, _, number = unit.partition("-")
        if not (shard.isdigit() and number.isdigit() and int(shard) <= len(self.shard_bytes)):
            return 0
        left = self.shard_bytes[int(shard) - 1] - (int(number) - 1) * self.unit_bytes
        return max(0, min(self.unit_bytes, left))


UNITS_KEY = "units.plan"


class Ledger:
    """The records of one plan, in a folder of a store."""

    def __init__(self, store: Store, folder: str) -> None:
        self._store = store
        self._folder = folder

    def write(self, record: UnitRecord, *, upload: Upload) -> None:
        """Note a unit as done.

        What another worker noted is replaced only while the upload is open: a worker that slept
        while others finished the run changes nothing.

        Args:
            record: record of the unit.
            upload: upload that the unit's part belongs to.
        """
        key, content = f"{self._folder}/{record.unit}.json", to_json(record)
        try:
            self._store.put(key, content, if_absent=True, is_durable=False)
        except PreconditionError:
            if upload.is_open():
                self._store.put(key, content, is_durable=False)

    def announce(self, plan: MergePlan) -> None:
        """Say how much there is to do."""
        planned = PlannedUnits(plan.unit_bytes, tuple(shard.size for shard in plan.shards))
        key, content = f"{self._folder}/{UNITS_KEY}", to_json(planned)
        try:
            self._store.put(key, content, if_absent=True, is_durable=False)
        except PreconditionError:
            if self._store.read(key) != content:  # left empty by a power failure
                self._store.put(key, content, is_durable=False)

    def read(self, shard: int) -> tuple[UnitRecord, ...]:
        """Records of one output shard, current or not; unreadable ones count as not done."""
        found = []
        for entry in self._store.list(f"{self._folder}/{shard + 1:05d}-"):
            with contextlib.suppress(ManifestError, NotFoundError):
                found.append(from_json(UnitRecord, self._store.read(entry.key)))
        return tuple(found)

    def forget(self) -> None:
        """Remove all records, so that every unit is computed anew."""
        for entry in list(self._store.list(f"{self._folder}/")):
            self._store.delete(entry.key)

    def find_shards(self, plan: MergePlan, models: Store, folder: str) -> tuple[ShardState, ...]:
        """The state of every shard; uploads are begun where there are none.

        Args:
            plan: what is being merged.
            models: store that holds the model's folder.
            folder: key of the model's folder.
        """
        units: dict[int, dict[int, MergeUnit]] = {}
        for unit in plan.units:
            units.setdefault(unit.shard, {})[unit.number] = unit
        return tuple(
            self._find_shard(plan, index, units[index], models, folder)
            for index in range(len(plan.shards))
        )

    def _find_shard(
        self,
        plan: MergePlan,
        index: int,
        units: Mapping[int, MergeUnit],
        models: Store,
        folder: str,
    ) -> ShardState:
        shard = plan.shards[index]
        key = f"{folder}/{shard.name}"
        while True:
            upload_id, etag = self._read_upload(index)
            if upload_id:
                upload = models.resume_upload(key, upload_id, size=shard.size)
                # Asked before the records are read: they were all written before it was completed.
                is_open = upload.is_open()
                records = _current(self.read(index), upload_id, units)
                if is_open:
                    found = upload.find_parts([record.part for record in records.values()])
                    return ShardState(upload_id, {n: records[n] for n in found}, is_complete=False)
                if len(records) == len(units) and _is_whole(models, key, plan, records):
                    return ShardState(upload_id, records, is_complete=True)
            # What is gone may have been thrown away by another driver that has finished the run:
            # a fenced store asks before it begins another.
            self._begin(plan, index, models, key, etag)

    def _begin(
        self, plan: MergePlan, index: int, models: Store, key: str, etag: str | None
    ) -> None:
        """Note a new upload in place of the read one, unless another driver was quicker."""
        size = plan.shards[index].size
        upload = models.start_upload(key, size=size, metadata={"plan": plan.id})
        content = to_json(UploadRecord(upload.id))
        try:
            if etag is None:
                self._store.put(self._upload_key(index), content, if_absent=True)
            else:
                self._store.put(self._upload_key(index), content, if_match=etag)
        except PreconditionError:
            winner, now = self._read_upload(index)
            if winner == upload.id:
                return  # an answer to our own put was lost
            upload.abort()
            if now == etag:
                raise  # refused without another write: the store contradicts itself

    def _read_upload(self, index: int) -> tuple[str, str | None]:
        """Id and etag of the record of a shard's upload.

        The id is "" where the record is empty or broken, the etag is None where there is none.
        """
        found = read_settled(self._store, self._upload_key(index))
        if found is None:
            return "", None
        with contextlib.suppress(ManifestError):
            return from_json(UploadRecord, found.content).upload, found.etag
        return "", found.etag

    def _upload_key(self, index: int) -> str:
        return f"{self._folder}/{index + 1:05d}.upload"


def _current(
    records: Iterable[UnitRecord], upload: str, units: Mapping[int, MergeUnit]
) -> dict[int, UnitRecord]:
    """Records by number that name this upload and describe a unit of the plan."""
    return {
        record.number: record
        for record in records
        if record.upload == upload
        and (unit := units.get(record.number)) is not None
        and (record.unit, record.offset, record.size)
        == (unit.id, unit.start, unit.end - unit.start)
    }


def _is_whole(models: Store, key: str, plan: MergePlan, records: Mapping[int, UnitRecord]) -> bool:
    """Whether the object is there with the bytes that the records describe.

    Asked of the store where it keeps metadata and a checksum; a folder is read again.
    """
    parts = [records[number].part for number in sorted(records)]
    crc = combine_crc64nvme((part.crc64nvme, part.size) for part in parts)
    try:
        entry = models.head(key)
        if entry.size != sum(part.size for part in parts):
            return False
        if entry.metadata.get("plan", plan.id) != plan.id:
            return False
        if entry.crc64nvme or models.is_remote:
            return entry.crc64nvme in ("", crc)
        return _read_crc(models, entry) == crc
    except (NotFoundError, PreconditionError):
        return False


def _read_crc(store: Store, entry: ObjectInfo) -> str:
    digest, buffer = RunningDigest(with_sha256=False), bytearray(min(entry.size, READ_BYTES))
    reader = store.open_reader(entry.key, if_match=entry.etag)
    try:
        while digest.size < entry.size:
            view = memoryview(buffer)[: entry.size - digest.size]
            reader.read_into(view, start=digest.size)
            digest.update(view)
    finally:
        reader.close()
    return digest.crc64nvme
