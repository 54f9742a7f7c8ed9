"""Check that source bytes arrived as they are stored: combined CRCs of ranges, known digests.

A ranged GET carries no checksum, so a bit that flips on the way down goes unnoticed by the
transport. A merge reads every byte of most shards once; the CRCs of those ranges combine into that
of the whole object, which the store or the manifest beside the source may know.
"""

from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

from cluster.digests import combine_crc64nvme, crc64nvme
from cluster.errors import AccessError, DigestError, NotFoundError, PreconditionError
from cluster.stores.open_store import open_store
from cluster.stores.store import Store
from fusion.canonical import from_json
from fusion.checkpoints.checkpoint import Checkpoint, PinnedFile
from fusion.checkpoints.header import parse_header
from fusion.errors import HeaderError, ManifestError, TruncatedError
from fusion.manifests.model import ModelManifest
from fusion.plans.plan import MergePlan
from jobs.candidates.changes import changed
from jobs.merge.ledger import SourceRead, UnitRecord

THREADS = 8
Shard = tuple[int, str]  # index of the checkpoint, name of the shard


def find_digests(plan: MergePlan) -> Mapping[Shard, str]:
    """The known CRC64NVME digests of those source shards that the plan reads whole.

    The store is asked (one HEAD a shard), else the manifest that metafuse left beside the shards.
    """
    sources = [source for tensor in plan.request.tensors for source in tensor.sources]
    whole = {(source.checkpoint, source.shard) for source in sources}
    whole |= {
        (added.checkpoint, factor.shard)
        for source in sources
        if (added := source.added) is not None
        for factor in (added.a, added.b)
    }
    checkpoints = plan.request.checkpoints
    files = [
        (index, file)
        for index, checkpoint in enumerate(checkpoints)
        for file in checkpoint.shards
        if (index, file.name) in whole
    ]
    with ThreadPoolExecutor(THREADS) as pool:
        stores = [open_store(checkpoint.uri) for checkpoint in checkpoints]
        written = list(pool.map(_manifest_digests, stores))
        kept = pool.map(lambda entry: _store_digest(stores[entry[0]], entry[1]), files)
        found = {
            (index, file.name): digest or written[index].get((file.name, file.pin.size), "")
            for (index, file), digest in zip(files, kept, strict=True)
        }
    return {place: digest for place, digest in found.items() if digest}


def check_sources(
    plan: MergePlan, known: Mapping[Shard, str], records: Iterable[UnitRecord]
) -> tuple[Shard, ...]:
    """Compare what arrived with what was stored.

    Args:
        plan: plan that was carried out.
        known: known digests by shard.
        records: records of all units.

    Returns:
        The shards that were compared; of others not every byte was read, or nothing is known.

    Raises:
        DigestError: bytes of a source arrived other than they are stored.
    """
    ranges: dict[Shard, list[SourceRead]] = {}
    for record in records:
        for read in record.reads:
            ranges.setdefault((read.checkpoint, read.shard), []).append(read)
    checked = []
    for place, digest in known.items():
        checkpoint = plan.request.checkpoints[place[0]]
        found = _combine(checkpoint, place[1], ranges.get(place, ()))
        if found is None:
            continue
        if found != digest:
            raise DigestError(
                f"{checkpoint.uri}/{place[1]} arrived with CRC64NVME {found}, it is stored with "
                f"{digest}: bytes changed on the way. Nothing was published, and what was "
                "computed from them is thrown away.",
                "run the same command again; if it stays, the source or the network is damaged",
            )
        checked.append(place)
    return tuple(checked)


def _combine(checkpoint: Checkpoint, shard: str, reads: Sequence[SourceRead]) -> str | None:
    """CRC of header and ranges; None where they do not cover the shard exactly once."""
    file = next(file for file in checkpoint.shards if file.name == shard)
    start = min((t.start for t in checkpoint.tensors if t.shard == shard), default=file.pin.size)
    end = start
    for read in sorted(reads, key=lambda read: read.start):
        if read.start != end:
            return None
        end += read.size
    if end != file.pin.size:
        return None
    header = bytearray(start)
    store = open_store(checkpoint.uri)
    try:
        store.read_into(
            shard, memoryview(header), start=0, if_match=file.pin.etag, version=file.pin.version
        )
    except (PreconditionError, NotFoundError):
        raise changed(store, shard, file.pin) from None
    _check_header(checkpoint, file, bytes(header))
    ordered = [(r.crc64nvme, r.size) for r in sorted(reads, key=lambda read: read.start)]
    return combine_crc64nvme([(crc64nvme(header), start), *ordered])


def _check_header(checkpoint: Checkpoint, file: PinnedFile, header: bytes) -> None:
    """The plan was made from a header that was read before: was it this one?"""
    where = f"{checkpoint.name}/{file.name}"
    try:
        now = {
            spec.name: spec for spec in parse_header(header, file_size=file.pin.size, shard=where)
        }
    except (HeaderError, TruncatedError):
        now = {}
    planned = [tensor for tensor in checkpoint.tensors if tensor.shard == file.name]
    if len(now) != len(planned) or not all(
        written in now and replace(now[written], name=tensor.name, shard=file.name) == tensor
        for tensor in planned
        for written in (checkpoint.renamed.get(tensor.name, tensor.name),)
    ):
        raise DigestError(
            f"the header of {checkpoint.uri}/{file.name} reads otherwise than when the merge was "
            "planned, and the file is the same: bytes changed on the way. Nothing was published.",
            "run the same command again; if it stays, the source or the network is damaged",
        )


def _store_digest(store: Store, file: PinnedFile) -> str:
    try:
        entry = store.head(file.name, version=file.pin.version)
    except NotFoundError:
        return ""
    same = file.pin.version is not None or entry.etag == file.pin.etag
    return entry.crc64nvme if same and entry.size == file.pin.size else ""


def _manifest_digests(store: Store) -> Mapping[tuple[str, int], str]:
    """CRCs by (file name, size), where metafuse wrote the source itself."""
    try:
        manifest = from_json(ModelManifest, store.read("manifest.json"))
    except (NotFoundError, AccessError, ManifestError):
        # Who may not list a bucket is told "no access" of what is not there.
        return {}
    return {(entry.name, entry.size): entry.crc64nvme for entry in manifest.files}
