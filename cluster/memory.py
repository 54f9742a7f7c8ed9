"""Objects in this process: what tests run on, with the manners of a versioned S3 bucket."""

import itertools
import threading
import time
import uuid
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from cluster.errors import (
    NotFoundError,
    PreconditionError,
    UnreachableError,
    UnsupportedError,
    UploadGoneError,
)
from cluster.store import ObjectInfo, Part


@dataclass
class Room:
    """The objects and unfinished uploads of one name."""

    objects: dict[str, tuple[bytes, ObjectInfo]] = field(default_factory=dict)
    versions: dict[tuple[str, str], bytes] = field(default_factory=dict)
    uploads: dict[str, tuple[str, int, Mapping[str, str], dict[int, tuple[bytes, Part]]]] = field(
        default_factory=dict
    )
    lock: threading.RLock = field(default_factory=threading.RLock)
    count: Iterator[int] = field(default_factory=lambda: itertools.count(1))


ROOMS: dict[str, Room] = {}
ROOMS_LOCK = threading.Lock()


class MemoryStore:
    """Objects under memory://name/prefix, shared by all stores of that name in the process."""

    def __init__(self, uri: str) -> None:
        self.uri = uri.rstrip("/")
        self._name, _, prefix = self.uri.removeprefix("memory://").partition("/")
        self._prefix = prefix + "/" if prefix else ""

    @property
    def room(self) -> Room:
        """Where the objects of this name live."""
        with ROOMS_LOCK:
            return ROOMS.setdefault(self._name, Room())

    def head(self, key: str, /) -> ObjectInfo:
        return self._find(key)[1]

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
        if version is not None:
            try:
                return self.room.versions[self._full(key), version]
            except KeyError:
                raise NotFoundError(f"{self.uri}/{key} has no version {version}") from None
        content, entry = self._find(key)
        if if_match is not None and entry.etag != if_match:
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

    def put(
        self, key: str, data: bytes, /, *, if_match: str | None = None, if_absent: bool = False
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
            self.room.uploads[upload_id] = (self._full(key), size, dict(metadata), {})
        return MemoryUpload(self, key, upload_id, size)

    def resume_upload(self, key: str, upload_id: str, /, *, size: int) -> "MemoryUpload":
        return MemoryUpload(self, key, upload_id, size)

    def _full(self, key: str) -> str:
        parts = key.split("/")
        if any(part in ("", ".", "..") for part in parts) or "\0" in key:
            raise UnsupportedError(f"{key!r} is not a key: it would leave {self.uri}")
        return self._prefix + key

    def _find(self, key: str) -> tuple[bytes, ObjectInfo]:
        with self.room.lock:
            try:
                content, entry = self.room.objects[self._full(key)]
            except KeyError:
                raise NotFoundError(f"{self.uri}/{key} does not exist") from None
        return content, self.relative(entry)

    def store_object(self, full: str, content: bytes, metadata: Mapping[str, str]) -> ObjectInfo:
        """Make an object appear; the caller holds the lock."""
        number = next(self.room.count)
        entry = ObjectInfo(
            full, len(content), f"e{number}", f"v{number}", time.time(), dict(metadata)
        )
        self.room.objects[full] = (content, entry)
        self.room.versions[full, f"v{number}"] = content
        return entry

    def relative(self, entry: ObjectInfo) -> ObjectInfo:
        """The same object, its key seen from this store."""
        key = entry.key.removeprefix(self._prefix)
        return ObjectInfo(
            key, entry.size, entry.etag, entry.version, entry.modified, entry.metadata
        )


class MemoryUpload:
    """Parts kept aside until `complete`."""

    def __init__(self, store: MemoryStore, key: str, upload_id: str, size: int) -> None:
        self.key = key
        self.id = upload_id
        self._store = store
        self._size = size

    def write_part(self, number: int, data: memoryview, /, *, offset: int, sha256: str) -> Part:
        room = self._store.room
        with room.lock:
            parts = self._parts()
            part = Part(number, offset, len(data), f"p{next(room.count)}", sha256)
            parts[number] = (bytes(data), part)
        return part

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
            full, size, metadata, stored = room.uploads[self.id]
            wanted = [part.number for part in parts]
            if self.find_parts(parts) != frozenset(wanted):
                raise UploadGoneError(f"upload of {self._store.uri}/{self.key} lacks parts")
            content = b"".join(stored[number][0] for number in sorted(wanted))
            if len(content) != size:
                raise UploadGoneError(
                    f"upload of {self._store.uri}/{self.key} has {len(content)} of {size} bytes"
                )
            entry = self._store.store_object(full, content, metadata)
            del room.uploads[self.id]
            return self._store.relative(entry)

    def abort(self) -> None:
        with self._store.room.lock:
            self._store.room.uploads.pop(self.id, None)

    def _parts(self) -> dict[int, tuple[bytes, Part]]:
        try:
            return self._store.room.uploads[self.id][3]
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
