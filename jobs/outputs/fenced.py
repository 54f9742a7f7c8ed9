"""A store that asks the lease before each write: a driver that lost its run writes nothing more."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Protocol

from cluster.digests import KnownCrc
from cluster.stores.store import (
    ObjectInfo,
    Part,
    PartCheck,
    PartWriter,
    Reader,
    Store,
    Upload,
    UploadInfo,
)
from jobs.errors import LockedError


class Permit(Protocol):
    """The right to write, which a fenced store asks for; a lease is one."""

    def confirm(self) -> None:
        """Raise if this driver may no longer write."""


class Fenced:
    """A store whose writes ask `guard` first, those of its uploads too. Reads ask nothing.

    For efficiency, not for safety: between the answer and the write a driver may fall asleep. What
    must not be overwritten is put under a condition as well.
    """

    def __init__(self, store: Store, guard: Permit) -> None:
        self.uri = store.uri
        self.is_remote = store.is_remote
        self._store = store
        self._guard = guard

    def head(self, key: str, /, *, version: str | None = None) -> ObjectInfo:
        return self._store.head(key, version=version)

    def find_crc(
        self,
        key: str,
        /,
        *,
        if_match: str | None = None,
        version: str | None = None,
        every_part: bool = False,
    ) -> KnownCrc | None:
        return self._store.find_crc(key, if_match=if_match, version=version, every_part=every_part)

    def list(self, prefix: str = "", /) -> Iterator[ObjectInfo]:
        return self._store.list(prefix)

    def read(
        self, key: str, /, *, if_match: str | None = None, version: str | None = None
    ) -> bytes:
        return self._store.read(key, if_match=if_match, version=version)

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
        self._store.read_into(key, buffer, start=start, if_match=if_match, version=version)

    def open_reader(
        self, key: str, /, *, if_match: str | None = None, version: str | None = None
    ) -> Reader:
        return self._store.open_reader(key, if_match=if_match, version=version)

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
        self._guard.confirm()
        return self._store.put(
            key, data, if_match=if_match, if_absent=if_absent, is_durable=is_durable
        )

    def delete(self, key: str, /) -> None:
        self._guard.confirm()
        self._store.delete(key)

    def start_upload(self, key: str, /, *, size: int, metadata: Mapping[str, str]) -> Upload:
        self._guard.confirm()
        upload = self._store.start_upload(key, size=size, metadata=metadata)
        try:
            self._guard.confirm()  # whoever took over meanwhile does not know of this upload
        except LockedError:
            upload.abort()
            raise
        return _FencedUpload(upload, self._guard)

    def resume_upload(self, key: str, upload_id: str, /, *, size: int) -> Upload:
        return _FencedUpload(self._store.resume_upload(key, upload_id, size=size), self._guard)

    def list_uploads(self, prefix: str = "", /) -> Iterator[UploadInfo]:
        return self._store.list_uploads(prefix)

    def find_part_check(self, key: str, /) -> PartCheck:
        return self._store.find_part_check(key)


class _FencedUpload:
    """An upload whose writes ask first."""

    def __init__(self, upload: Upload, guard: Permit) -> None:
        self.key = upload.key
        self.id = upload.id
        self._upload = upload
        self._guard = guard

    def start_part(
        self, number: int, /, *, offset: int, size: int, with_sha256: bool
    ) -> PartWriter:
        self._guard.confirm()
        return self._upload.start_part(number, offset=offset, size=size, with_sha256=with_sha256)

    def is_open(self) -> bool:
        return self._upload.is_open()

    def find_parts(self, parts: Iterable[Part], /) -> frozenset[int]:
        return self._upload.find_parts(parts)

    def complete(self, parts: Sequence[Part], /) -> ObjectInfo:
        self._guard.confirm()
        return self._upload.complete(parts)

    def abort(self) -> None:
        self._guard.confirm()
        self._upload.abort()
