"""A store that looks before it writes: enough for conditions where it is the only writer."""

from collections.abc import Iterator, Mapping

from cluster.digests import KnownCrc
from cluster.errors import NotFoundError, PreconditionError
from cluster.stores.store import ObjectInfo, PartCheck, Reader, Store, Upload, UploadInfo


class SingleWriterStore:
    """Another store, never asked for a conditional write.

    `head` before a plain write answers `if_absent` and `if_match`. Another process may write
    between the two: use this only for outputs that one process at a time writes, and no person.
    """

    def __init__(self, store: Store) -> None:
        self._store = store
        self.uri = store.uri
        self.is_remote = store.is_remote

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
        if if_absent or if_match is not None:
            try:
                etag = self._store.head(key).etag
            except NotFoundError:
                etag = None
            if if_absent and etag is not None:
                raise PreconditionError(f"{self.uri}/{key} exists")
            if if_match is not None and etag != if_match:
                raise PreconditionError(f"{self.uri}/{key} is {etag}, not {if_match}")
        return self._store.put(key, data, is_durable=is_durable)

    def delete(self, key: str, /) -> None:
        self._store.delete(key)

    def start_upload(self, key: str, /, *, size: int, metadata: Mapping[str, str]) -> Upload:
        return self._store.start_upload(key, size=size, metadata=metadata)

    def resume_upload(self, key: str, upload_id: str, /, *, size: int) -> Upload:
        return self._store.resume_upload(key, upload_id, size=size)

    def list_uploads(self, prefix: str = "", /) -> Iterator[UploadInfo]:
        return self._store.list_uploads(prefix)

    def find_part_check(self, key: str, /) -> PartCheck:
        return self._store.find_part_check(key)
