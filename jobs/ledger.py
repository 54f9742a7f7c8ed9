"""Which units of a merge are done: one small record a unit, kept beside the run.

A record counts when it names the shard's current upload and the store confirms the part. So a
merge can be taken up by any driver with any number of workers, and never redoes more than what was
in flight.
"""

import contextlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from cluster.digests import combine_crc64nvme
from cluster.errors import NotFoundError, PreconditionError
from cluster.store import Part, Store, Upload
from fusion.canonical import from_json, to_json
from fusion.errors import ManifestError
from fusion.health import PieceSums
from fusion.plan import MergePlan, MergeUnit


@dataclass(frozen=True, slots=True)
class SourceRead:
    """A range of a source that a unit read, and the CRC64NVME of what arrived."""

    checkpoint: int
    shard: str
    start: int
    size: int
    crc64nvme: str


@dataclass(frozen=True, slots=True)
class UnitRecord:
    """What a worker leaves after the bytes of a unit.

    Attributes:
        unit: id of the unit, such as 00001-00003.
        upload: id of the upload that the part belongs to.
        number: part number.
        offset: of the part in the shard.
        size: bytes.
        etag: of the part.
        crc64nvme: of the part's bytes.
        sha256: of the part's bytes, "" where it was not made.
        read_bytes: tensor bytes read from the sources.
        seconds: from the first read to the last byte written.
        peak_bytes: largest resident memory of the worker so far.
        largest: largest magnitude among the unit's values.
        worker: host/process.
        reads: ranges of those sources whose digest is known.
        health: sums over the values of the tensors that the unit computed.
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

    @property
    def shard(self) -> int:
        """Index of the output shard."""
        return int(self.unit.partition("-")[0]) - 1

    @property
    def part(self) -> Part:
        """What the store is asked about."""
        return Part(self.number, self.offset, self.size, self.etag, self.crc64nvme, self.sha256)


@dataclass(frozen=True, slots=True)
class ShardState:
    """How far one output shard is.

    Attributes:
        upload: id of the upload that new parts go to.
        records: confirmed units, by number.
        is_complete: the whole object is there under its key.
    """

    upload: str
    records: Mapping[int, UnitRecord]
    is_complete: bool


class Ledger:
    """The records of one plan, in a folder of a store."""

    def __init__(self, store: Store, folder: str) -> None:
        self._store = store
        self._folder = folder

    def write(self, record: UnitRecord) -> None:
        """Note a unit as done."""
        self._store.put(f"{self._folder}/{record.unit}.json", to_json(record), is_durable=False)

    def read(self) -> tuple[UnitRecord, ...]:
        """All records, current or not; what cannot be read counts as not done."""
        found = []
        for entry in self._store.list(f"{self._folder}/"):
            if entry.key.endswith(".json"):
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
            models: store of the output.
            folder: key of the model's folder in it.
        """
        by_shard: dict[int, list[UnitRecord]] = {}
        for record in self.read():
            by_shard.setdefault(record.shard, []).append(record)
        units: dict[int, list[MergeUnit]] = {}
        for unit in plan.units:
            units.setdefault(unit.shard, []).append(unit)
        return tuple(
            self._find_shard(plan, index, units[index], by_shard.get(index, []), models, folder)
            for index in range(len(plan.shards))
        )

    def _find_shard(
        self,
        plan: MergePlan,
        index: int,
        units: Sequence[MergeUnit],
        records: Sequence[UnitRecord],
        models: Store,
        folder: str,
    ) -> ShardState:
        shard = plan.shards[index]
        key = f"{folder}/{shard.name}"
        upload_id, etag = self._read_upload(index)
        current = {r.number: r for r in records if r.upload == upload_id}
        is_known = upload_id and len(current) == len(units)
        if is_known and _is_there(models, key, shard.size, plan.id, _combine(current)):
            return ShardState(upload_id, current, is_complete=True)
        upload = models.resume_upload(key, upload_id, size=shard.size) if upload_id else None
        if upload is None or not upload.is_open():
            upload = self._begin(plan, index, models, key, etag)
            current = {r.number: r for r in records if r.upload == upload.id}
        found = upload.find_parts([record.part for record in current.values()])
        return ShardState(upload.id, {n: current[n] for n in found}, is_complete=False)

    def _begin(
        self, plan: MergePlan, index: int, models: Store, key: str, etag: str | None
    ) -> Upload:
        """A new upload, or that of the driver which was quicker."""
        size = plan.shards[index].size
        upload = models.start_upload(key, size=size, metadata={"plan": plan.id})
        content = json.dumps({"upload": upload.id}).encode()
        try:
            if etag is None:
                self._store.put(self._upload_key(index), content, if_absent=True)
            else:
                self._store.put(self._upload_key(index), content, if_match=etag)
        except PreconditionError:
            winner, _ = self._read_upload(index)
            if winner == upload.id:
                return upload
            upload.abort()
            if not winner:
                raise  # refused, and yet nobody else wrote: the store contradicts itself
            return models.resume_upload(key, winner, size=size)
        return upload

    def _read_upload(self, index: int) -> tuple[str, str | None]:
        key = self._upload_key(index)
        while True:
            try:
                etag = self._store.head(key).etag
                content = self._store.read(key, if_match=etag)
            except NotFoundError:
                return "", None
            except PreconditionError:
                continue
            return str(json.loads(content)["upload"]), etag

    def _upload_key(self, index: int) -> str:
        return f"{self._folder}/{index + 1:05d}.upload"


def _is_there(models: Store, key: str, size: int, plan_id: str, crc: str) -> bool:
    """Whether the object exists as planned, as far as the store keeps plan and CRC."""
    try:
        entry = models.head(key)
    except NotFoundError:
        return False
    if entry.crc64nvme not in ("", crc):
        return False
    return entry.size == size and entry.metadata.get("plan", plan_id) == plan_id


def _combine(records: Mapping[int, UnitRecord]) -> str:
    """CRC64NVME of a whole shard from its records."""
    ordered = [records[number] for number in sorted(records)]
    return combine_crc64nvme((record.crc64nvme, record.size) for record in ordered)
