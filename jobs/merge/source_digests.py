"""Check that source bytes arrived as they are stored: combined CRCs of ranges, known CRCs.

A ranged GET carries no checksum, so a bit that flips on the way down goes unnoticed by the
transport. A merge reads every byte of most shards once; the CRCs of those ranges combine into that
of the whole object, or of its parts, which the store or the manifest beside the source may know.
"""

from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

from cluster.digests import KnownCrc, compute_crc
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


def find_digests(plan: MergePlan) -> Mapping[Shard, KnownCrc]:
    """What is known of the bytes of those source shards that the plan reads.

    The store is asked (`Store.find_crc`), else the manifest that metafuse left beside the shards.
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
        kept = pool.map(lambda entry: _stored_crc(stores[entry[0]], entry[1]), files)
        return {
            (index, file.name): crc
            for (index, file), stored in zip(files, kept, strict=True)
            if (crc := stored or written[index].get((file.name, file.pin.size))) is not None
        }


def check_sources(
    plan: MergePlan, known: Mapping[Shard, KnownCrc], records: Iterable[UnitRecord]
) -> tuple[Shard, ...]:
    """Compare what arrived with what was stored.

    Args:
        plan: plan that was carried out.
        known: what is known of the shards.
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
    for place, crc in known.items():
        checkpoint = plan.request.checkpoints[place[0]]
        file = next(file for file in checkpoint.shards if file.name == place[1])
        reads = sorted(ranges.get(place, ()), key=lambda read: read.start)
        found = _combine(checkpoint, file, crc, reads)
        if found is None:
            continue
        if found != crc.digits:
            if crc.parts and not _is_cut_so(checkpoint, file, crc):
                continue  # nothing can be said of ranges that end elsewhere than the parts
            raise DigestError(
                f"{checkpoint.uri}/{place[1]} arrived with {crc.name} {found}, it is stored with "
                f"{crc.digits}: bytes changed on the way. Nothing was published, and what was "
                "computed from them is thrown away.",
                "run the same command again; if it stays, the source or the network is damaged",
            )
        checked.append(place)
    return tuple(checked)


def _combine(
    checkpoint: Checkpoint, file: PinnedFile, known: KnownCrc, reads: Sequence[SourceRead]
) -> str | None:
    """CRC of header and ranges; None where they do not cover the shard exactly once."""
    shard, size = file.name, file.pin.size
    start = min((t.start for t in checkpoint.tensors if t.shard == shard), default=size)
    end = start
    for read in reads:
        if read.start != end:
            return None
        end += read.size
        # An earlier driver may have known something else.
        if read.kind != known.kind or len([*known.cut(read.start, end)]) != 1:
            return None
    if end != size:
        return None
    header = memoryview(bytearray(start))
    store = open_store(checkpoint.uri)
    try:
        store.read_into(shard, header, start=0, if_match=file.pin.etag, version=file.pin.version)
    except (PreconditionError, NotFoundError):
        raise changed(store, shard, file.pin) from None
    _check_header(checkpoint, file, bytes(header))
    pieces = [
        (compute_crc(known.kind, header[first:last]), last - first)
        for first, last in known.cut(0, start)
    ]
    return known.of_pieces([*pieces, *((read.digits, read.size) for read in reads)])


def _is_cut_so(checkpoint: Checkpoint, file: PinnedFile, known: KnownCrc) -> bool:
    """Whether the parts are really as long as they were taken to be."""
    return _stored_crc(open_store(checkpoint.uri), file, every_part=True) == known


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


def _stored_crc(store: Store, file: PinnedFile, *, every_part: bool = False) -> KnownCrc | None:
    pin = file.pin
    try:
        return store.find_crc(
            file.name, if_match=pin.etag, version=pin.version, every_part=every_part
        )
    except (NotFoundError, PreconditionError):
        return None  # who reads it says that it changed


def _manifest_digests(store: Store) -> Mapping[tuple[str, int], KnownCrc]:
    """CRCs by (file name, size), where metafuse wrote the source itself."""
    try:
        manifest = from_json(ModelManifest, store.read("manifest.json"))
    except (NotFoundError, AccessError, ManifestError):
        # Who may not list a bucket is told "no access" of what is not there.
        return {}
    return {
        (entry.name, entry.size): KnownCrc("crc64nvme", entry.crc64nvme)
        for entry in manifest.files
        if entry.crc64nvme
    }
