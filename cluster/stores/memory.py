"""Objects in this process: what tests run on, with the manners of a versioned S3 bucket."""

import itertools
import threading
import time
import uuid
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace

from cluster.digests import KnownCrc, RunningDigest, crc64nvme
from cluster.errors import (
    NotFoundError,
    PreconditionError,
    UnreachableError,
    UnsupportedError,
    UploadGoneError,
)
from cluster.stores.parts import BufferedPartWriter, PinnedReader
from cluster.stores.store import ObjectInfo, Part, PartCheck, UploadInfo


@dataclass
class Unfinished:
    """An upload: what it will be, and its parts so far."""

    key: str
    size: int
    metadata: Mapping[str, str]
    started: float
    parts: dict[int, tuple[bytes, Part]] = field(default_factory=dict)


@dataclass
class Room:
    """The objects and unfinished uploads of one name."""

    objects: dict[str, tuple[bytes, ObjectInfo]] = field(default_factory=dict)
    versions: dict[tuple[str, str], tuple[bytes, ObjectInfo]] = field(default_factory=dict)
    uploads: dict[str, "Unfinished"] = field(default_factory=dict)
    lock: threading.RLock = field(default_factory=threading.RLock)
    count: Iterator[int] = field(default_factory=lambda: itertools.count(1))


ROOMS: dict[str, Room] = {}
ROOMS_LOCK = threading.Lock()


class MemoryStore:
    """Objects under memory://name/prefix, shared by all stores of that name in the process."""

    is_remote = False

    def __init__(self, uri: str) -> None:
        self.uri = uri.rstrip("/")
        self._name, _, prefix = self.uri.removeprefix("memory://").partition("/")
        self._prefix = prefix + "/" if prefix else ""

    @property
    def room(self) -> Room:
        """Where the objects of this name live."""
        with ROOMS_LOCK:
            return ROOMS.setdefault(self._name, Room())

    def head(self, key: str, /, *, version: str | None = None) -> ObjectInfo:
        return self._find(key, version)[1]

    def find_crc(
        self,
        key: str,
        /,
        *,
        if_match: str | None = None,
        version: str | None = None,
        every_part: bool = False,
    ) -> KnownCrc | None:
        entry = self._find(key, version)[1]
        if version is None and if_match not in (None, entry.etag):
            raise PreconditionError(f"{self.uri}/{key} is {entry.etag}, not {if_match}")
        return KnownCrc("crc64nvme", entry.crc64nvme) if entry.crc64nvme else None

    def list(self, prefix: str = "", /) -> Iterator[ObjectInfo]:
        room = self.room
        with room.lock:
            found = sorted(room.objects.items())
        for key, (_, entry) in found:
            if key.startswith(self._prefix + prefix):
                yield self.relative(entry)

    def read(
        self, key: str, /, *, if_match: str | None = None, version: str | None = None
    ) -> bytes:
        content, entry = self._find(key, version)
        if version is None and if_match is not None and entry.etag != if_match:
            raise PreconditionError(f"{self.uri}/{key} is {entry.etag}, not {if_match}")
        return content

    def read_into(
        self,
        key: str,
        buffer: memoryview,
        /,
        *,
        start: int,
        if_match: str | None = None,
        version: str | None = None,
    ) -> None:
        content = self.read(key, if_match=if_match, version=version)
        piece = content[start : start + len(buffer)]
        if len(piece) != len(buffer):
            raise UnreachableError(
                f"{self.uri}/{key}: bytes {start} to {start + len(buffer)} asked, "
                f"the object has {len(content)}"
            )
        buffer[:] = piece

    def open_reader(
        self, key: str, /, *, if_match: str | None = None, version: str | None = None
    ) -> PinnedReader:
        return PinnedReader(self, key, if_match, version)

    def put(
        self,
        key: str,
        data: bytes,
        /,
        *,
        if_match: str | None = None,
        if_absent: bool = False,
        is_durable: bool = True,
    ) -> ObjectInfo:
        with self.room.lock:
            there = self.room.objects.get(self._full(key))
            if if_absent and there is not None:
                raise PreconditionError(f"{self.uri}/{key} exists")
            if if_match is not None and (there is None or there[1].etag != if_match):
                raise PreconditionError(f"{self.uri}/{key} is not {if_match}")
            return self.relative(self.store_object(self._full(key), bytes(data), {}))

    def delete(self, key: str, /) -> None:
        with self.room.lock:
            self.room.objects.pop(self._full(key), None)

    def start_upload(
        self, key: str, /, *, size: int, metadata: Mapping[str, str]
    ) -> "MemoryUpload":
        upload_id = uuid.uuid4().hex
        with self.room.lock:
            self.room.uploads[upload_id] = Unfinished(
                self._full(key), size, dict(metadata), time.time()
            )
        return MemoryUpload(self, key, upload_id, size)

    def resume_upload(self, key: str, upload_id: str, /, *, size: int) -> "MemoryUpload":
        return MemoryUpload(self, key, upload_id, size)

    def list_uploads(self, prefix: str = "", /) -> Iterator[UploadInfo]:
        with self.room.lock:
            found = sorted((u.key, upload_id, u) for upload_id, u in self.room.uploads.items())
        for key, upload_id, upload in found:
            if key.startswith(self._prefix + prefix):
                kept = sum(len(content) for content, _ in upload.parts.values())
                yield UploadInfo(key.removeprefix(self._prefix), upload_id, upload.started, kept)

    def find_part_check(self, key: str, /) -> PartCheck:
        return "local"

    def _full(self, key: str) -> str:
        parts = key.split("/")
        if any(part in ("", ".", "..") for part in parts) or "\0" in key:
            raise UnsupportedError(f"{key!r} is not a key: it would leave {self.uri}")
        return self._prefix + key

    def _find(self, key: str, version: str | None) -> tuple[bytes, ObjectInfo]:
        full = self._full(key)
        with self.room.lock:
            found = self.room.versions.get((full, version)) if version else None
            found = found if version else self.room.objects.get(full)
        if found is None:
            which = f" in version {version}" if version else ""
            raise NotFoundError(f"{self.uri}/{key} does not exist{which}")
        content, entry = found
        return content, self.relative(entry)

    def store_object(self, full: str, content: bytes, metadata: Mapping[str, str]) -> ObjectInfo:
        """Make an object appear; the caller holds the lock."""
        number = next(self.room.count)
        entry = ObjectInfo(
            full, len(content), f"e{number}", f"v{number}", time.time(), dict(metadata),
            crc64nvme(content),
        )  # fmt: skip
        self.room.objects[full] = (content, entry)
        self.room.versions[full, f"v{number}"] = (content, entry)
        return entry

    def relative(self, entry: ObjectInfo) -> ObjectInfo:
        """The same object, its key seen from this store."""
        return replace(entry, key=entry.key.removeprefix(self._prefix))


class MemoryUpload:
    """Parts kept aside until `complete`."""

    def __init__(self, store: MemoryStore, key: str, upload_id: str, size: int) -> None:
        self.key = key
        self.id = upload_id
        self._store = store
        self._size = size

    def start_part(
        self, number: int, /, *, offset: int, size: int, with_sha256: bool
    ) -> BufferedPartWriter:
        def keep(content: memoryview, digest: RunningDigest) -> Part:
            room = self._store.room
            with room.lock:
                parts = self._parts()
                etag = f"p{next(room.count)}"
                part = Part(number, offset, digest.size, etag, digest.crc64nvme, digest.sha256)
                parts[number] = (bytes(content), part)
            return part

        with self._store.room.lock:
            self._parts()
        return BufferedPartWriter(keep, size=size, with_sha256=with_sha256)

    def is_open(self) -> bool:
        with self._store.room.lock:
            return self.id in self._store.room.uploads

    def find_parts(self, parts: Iterable[Part], /) -> frozenset[int]:
        with self._store.room.lock:
            try:
                stored = self._parts()
            except UploadGoneError:
                return frozenset()
            return frozenset(
                part.number
                for part in parts
                if part.number in stored
                and (stored[part.number][1].size, stored[part.number][1].etag)
                == (part.size, part.etag)
            )

    def complete(self, parts: Sequence[Part], /) -> ObjectInfo:
        room = self._store.room
        with room.lock:
            if self.id not in room.uploads:
                return self._finished()
            upload = room.uploads[self.id]
            wanted = [part.number for part in parts]
            if self.find_parts(parts) != frozenset(wanted):
                raise UploadGoneError(f"upload of {self._store.uri}/{self.key} lacks parts")
            content = b"".join(upload.parts[number][0] for number in sorted(wanted))
            if len(content) != upload.size:
                raise UploadGoneError(
                    f"upload of {self._store.uri}/{self.key} has {len(content)} of "
                    f"{upload.size} bytes"
                )
            entry = self._store.store_object(upload.key, content, upload.metadata)
            del room.uploads[self.id]
            return self._store.relative(entry)

    def abort(self) -> None:
        with self._store.room.lock:
            self._store.room.uploads.pop(self.id, None)

    def _parts(self) -> dict[int, tuple[bytes, Part]]:
        try:
            return self._store.room.uploads[self.id].parts
        except KeyError:
            raise UploadGoneError(f"upload {self.id} of {self.key} is gone") from None

    def _finished(self) -> ObjectInfo:
        try:
            entry = self._store.head(self.key)
        except NotFoundError:
            entry = None
        if entry is None or entry.size != self._size:
            raise UploadGoneError(f"upload {self.id} of {self._store.uri}/{self.key} is gone")
        return entry
