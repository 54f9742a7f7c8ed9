"""Shards whose parts are all there are completed; uploads that were forgotten are aborted."""

import contextlib
import hashlib
from collections.abc import Sequence

from cluster.digests import combine_crc64nvme
from cluster.errors import ClusterError, DigestError
from cluster.stores.store import Part, Store
from fusion.manifests.model import FileEntry
from jobs.merge.job import MergeJob
from jobs.merge.ledger import ShardState, UnitRecord


def complete_shards(
    job: MergeJob, store: Store, states: Sequence[ShardState], made: Sequence[UnitRecord]
) -> tuple[FileEntry, ...]:
    """Make every shard appear whose parts are all written, and describe it.

    Raises:
        DigestError: the store has other bytes than were written.
    """
    files = []
    for index, (shard, state) in enumerate(zip(job.plan.shards, states, strict=True)):
        records = dict(state.records)
        records |= {record.number: record for record in made if record.shard == index}
        parts = [records[number].part for number in sorted(records)]
        crc = combine_crc64nvme((part.crc64nvme, part.size) for part in parts)
        if not state.is_complete:
            key = f"{job.model}/{shard.name}"
            upload = store.resume_upload(key, state.upload, size=shard.size)
            stored = upload.complete(parts).crc64nvme
            if stored and stored != crc:
                raise DigestError(
                    f"{store.uri}/{key} is stored with CRC64NVME {stored}, {crc} was written. "
                    "Nothing was published.",
                    "run the same command again; if it stays, the store is damaged",
                )
        files.append(describe_file(shard.name, shard.size, crc, parts, job.plan.unit_bytes))
    return tuple(files)


def abort_orphans(job: MergeJob, store: Store) -> None:
    """Forget uploads that a driver began and died before it could note them."""
    sizes = {f"{job.model}/{shard.name}": shard.size for shard in job.plan.shards}
    # All shards are complete. Listing uploads is a right of its own and not offered everywhere:
    # what stays is found by gc.
    with contextlib.suppress(ClusterError):
        for left in list(store.list_uploads(f"{job.model}/")):
            if left.key in sizes:
                store.resume_upload(left.key, left.id, size=sizes[left.key]).abort()


def describe_file(
    name: str, size: int, crc: str, parts: Sequence[Part], unit_bytes: int
) -> FileEntry:
    """A file that was written in parts of `unit_bytes`, as a manifest lists it."""
    units = tuple(part.sha256 for part in parts) if all(part.sha256 for part in parts) else ()
    whole = hashlib.sha256(b"".join(map(bytes.fromhex, units))).hexdigest() if units else ""
    return FileEntry(name, size, whole, unit_bytes, crc64nvme=crc, units=units)
