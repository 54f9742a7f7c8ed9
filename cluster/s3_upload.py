"""A large object in S3: a multipart upload, whose parts any process may write."""

import base64
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

from cluster.digests import RunningDigest
from cluster.errors import DigestError, NotFoundError, UnreachableError, UploadGoneError
from cluster.parts import BufferedPartWriter
from cluster.s3_errors import translated
from cluster.store import ObjectInfo, Part

if TYPE_CHECKING:
    from cluster.s3 import S3Store

DIGEST_TRIES = 3


def crc_on_the_wire(digits: str) -> str:
    """A CRC as S3 writes it in headers."""
    return base64.b64encode(bytes.fromhex(digits)).decode()


class S3Upload:
    """A multipart upload; workers write parts, the driver completes."""

    def __init__(self, store: "S3Store", key: str, upload_id: str, size: int) -> None:
        self.key = key
        self.id = upload_id
        self._store = store
        self._size = size

    @property
    def _address(self) -> dict[str, str]:
        return {**self._store.address(self.key), "UploadId": self.id}

    def start_part(
        self, number: int, /, *, offset: int, size: int, with_sha256: bool
    ) -> BufferedPartWriter:
        def send(content: memoryview, digest: RunningDigest) -> Part:
            etag = self._send(number, content, crc_on_the_wire(digest.crc64nvme))
            return Part(number, offset, digest.size, etag, digest.crc64nvme, digest.sha256)

        return BufferedPartWriter(send, size=size, with_sha256=with_sha256)

    def _send(self, number: int, content: memoryview, crc: str) -> str:
        """One UploadPart; returns its ETag."""
        body = bytes(content)  # botocore rewinds and re-sends it on a retry
        for tries_left in reversed(range(DIGEST_TRIES)):
            try:
                with translated(self._store.uri, self.key):
                    answer = self._store.client.upload_part(
                        **self._address, PartNumber=number, Body=body, ChecksumCRC64NVME=crc
                    )
                return str(answer["ETag"])
            except DigestError:
                # A bit flipped on the way; botocore does not retry that.
                if tries_left == 0:
                    raise
        raise AssertionError("unreachable")

    def is_open(self) -> bool:
        try:
            with translated(self._store.uri, self.key):
                self._store.client.list_parts(**self._address, MaxParts=1)
        except (UploadGoneError, NotFoundError):
            return False
        return True

    def find_parts(self, parts: Iterable[Part], /) -> frozenset[int]:
        listed: dict[int, list[tuple[Any, tuple[int, str]]]] = {}
        try:
            with translated(self._store.uri, self.key):
                pages = self._store.client.get_paginator("list_parts").paginate(**self._address)
                for page in pages:
                    for part in page.get("Parts", ()):
                        entry = (part["LastModified"], (part["Size"], part["ETag"]))
                        listed.setdefault(part["PartNumber"], []).append(entry)
        except (UploadGoneError, NotFoundError):
            return frozenset()
        return frozenset(
            part.number
            for part in parts
            if (part.size, part.etag) in _newest(listed.get(part.number, []))
        )

    def complete(self, parts: Sequence[Part], /) -> ObjectInfo:
        ordered = sorted(parts, key=lambda part: part.number)
        wanted = [{"PartNumber": part.number, "ETag": part.etag} for part in ordered]
        try:
            with translated(self._store.uri, self.key):
                self._store.client.complete_multipart_upload(
                    **self._address, MultipartUpload={"Parts": wanted}
                )
        except (UploadGoneError, NotFoundError, UnreachableError) as error:
            # Completed by an earlier try, or gone: the object itself tells.
            try:
                return self._finished()
            except UploadGoneError as gone:
                raise (error if isinstance(error, UnreachableError) else gone) from None
        return self._finished()

    def abort(self) -> None:
        try:
            with translated(self._store.uri, self.key):
                self._store.client.abort_multipart_upload(**self._address)
        except (UploadGoneError, NotFoundError):
            return

    def _finished(self) -> ObjectInfo:
        try:
            entry = self._store.head(self.key)
        except NotFoundError:
            entry = None
        if entry is None or entry.size != self._size:
            raise UploadGoneError(
                f"upload {self.id} of {self._store.uri}/{self.key} is gone and left no whole object"
            )
        return entry


def _newest(entries: Sequence[tuple[Any, tuple[int, str]]]) -> set[tuple[int, str]]:
    """Sizes and ETags of the newest entries: some servers list a part sent twice twice.

    Their clock ticks in seconds, so several can be newest; `complete` names the ETag it wants.
    """
    last = max((modified for modified, _ in entries), default=None)
    return {found for modified, found in entries if modified == last}
