"""What a store can really do, found out by doing it on a key that is removed afterwards."""

import uuid
from dataclasses import dataclass, replace
from typing import Literal

from cluster.digests import crc64nvme
from cluster.errors import ClusterError, PreconditionError, UnsupportedError
from cluster.stores.store import PartCheck, Store

CONTENT = b"0123456789"


@dataclass(frozen=True, slots=True)
class StoreFacts:
    """What a probe saw.

    Attributes:
        is_writable: a small object could be written, read and removed.
        has_conditional_create: the store refused a second "only if absent" write.
        has_conditional_update: the store refused a write against an old etag, and took one against
            the right etag.
        has_ranges: a ranged read returned exactly the range that was asked for.
        has_pinned_reads: the store refused a ranged read of an object that had changed meanwhile.
        has_versions: overwritten content could be read by its version.
        part_check: how the store verifies a part when it arrives; None without a thorough probe.
        keeps_crc64nvme: the store knows the CRC64NVME of an object written in parts; None without a
            thorough probe.
        problem: why the store is not writable; "" if it is.
    """

    is_writable: bool
    has_conditional_create: bool = False
    has_conditional_update: bool = False
    has_ranges: bool = False
    has_pinned_reads: bool = False
    has_versions: bool = False
    part_check: PartCheck | None = None
    keeps_crc64nvme: bool | None = None
    problem: str = ""


Need = Literal[
    "is_writable", "has_conditional_create", "has_conditional_update", "has_ranges",
    "has_pinned_reads", "has_versions", "keeps_crc64nvme",
]  # fmt: skip
MEANINGS: dict[Need, str] = {
    "is_writable": "writing",
    "has_conditional_create": "creation only if absent (If-None-Match)",
    "has_conditional_update": "compare-and-swap (If-Match on writes)",
    "has_ranges": "ranged reads",
    "has_pinned_reads": "refusing reads of what changed (If-Match on reads)",
    "has_versions": "versions",
    "keeps_crc64nvme": "checksums of whole objects (CRC64NVME)",
}


def probe_store(store: Store, /, *, is_thorough: bool = False) -> StoreFacts:
    """Write, read and remove one small object under a random key: about ten requests.

    Args:
        store: the store to try.
        is_thorough: whether to write an object in parts too, some six requests more.
    """
    key = f"probe-{uuid.uuid4().hex}"
    try:
        first = store.put(key, b"1", if_absent=True)
        try:
            facts = _try_reads(store, key, first.etag, _try_writes(store, key, first.etag))
            if first.version is not None:
                old = store.read(key, version=first.version)
                facts = replace(facts, has_versions=old == b"1")
            if is_thorough and facts.is_writable:
                facts = _try_upload(store, key, facts)
        finally:
            store.delete(key)
    except ClusterError as error:
        return StoreFacts(is_writable=False, problem=str(error))
    return facts


def check_store_can(facts: StoreFacts, where: str, /, *needs: Need) -> None:
    """Refuse to go on with a store that lacks something.

    Args:
        facts: what a probe saw of the store.
        where: URI of the store, for the message.
        needs: what the caller's next steps need of the store.

    Raises:
        UnsupportedError: names all that is missing.
    """
    missing = [MEANINGS[need] for need in needs if not getattr(facts, need)]
    if missing:
        raise UnsupportedError(
            f"{where} was tried out and lacks: {', '.join(missing)}. Nothing was done."
            + (f" It answered: {facts.problem}" if facts.problem else ""),
            "`metafuse doctor` says what this store can do; docs/stores.md names some that can",
        )


def _try_writes(store: Store, key: str, old_etag: str) -> StoreFacts:
    create = _is_refused(store, key, if_absent=True)
    new_etag = store.put(key, b"22").etag
    update = _is_refused(store, key, if_match=old_etag)
    update = update and not _is_refused(store, key, if_match=new_etag)
    store.put(key, CONTENT)
    readable = store.read(key) == CONTENT
    return StoreFacts(
        is_writable=readable,
        has_conditional_create=create,
        has_conditional_update=update,
        problem="" if readable else "read other bytes than written",
    )


def _try_reads(store: Store, key: str, old_etag: str, facts: StoreFacts) -> StoreFacts:
    ranges = pinned = False
    try:
        ranges = _read_some(store, key, store.head(key).etag) == CONTENT[3:7]
        _read_some(store, key, old_etag)
    except PreconditionError:
        pinned = ranges
    except UnsupportedError:
        pinned = False  # refused by us: the server sent something else than was asked for
    return replace(facts, has_ranges=ranges, has_pinned_reads=pinned)


def _try_upload(store: Store, key: str, facts: StoreFacts) -> StoreFacts:
    check = store.find_part_check(key)
    upload = store.start_upload(key, size=len(CONTENT), metadata={})
    try:
        writer = upload.start_part(1, offset=0, size=len(CONTENT), with_sha256=False)
        writer.append(memoryview(CONTENT))
        upload.complete([writer.finish()])
    except ClusterError:
        upload.abort()
        raise
    kept = store.head(key).crc64nvme == crc64nvme(CONTENT)
    return replace(facts, part_check=check, keeps_crc64nvme=kept)


def _is_refused(
    store: Store, key: str, *, if_absent: bool = False, if_match: str | None = None
) -> bool:
    try:
        store.put(key, b"333", if_absent=if_absent, if_match=if_match)
    except PreconditionError:
        return True
    return False


def _read_some(store: Store, key: str, etag: str) -> bytes:
    buffer = bytearray(4)
    store.read_into(key, memoryview(buffer), start=3, if_match=etag)
    return bytes(buffer)
