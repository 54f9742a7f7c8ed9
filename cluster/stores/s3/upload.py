"""A large object in S3: a multipart upload, whose parts any process may write."""

import contextlib
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

from cluster.digests import RunningDigest, combine_crc64nvme
from cluster.errors import DigestError, NotFoundError, UnreachableError, UploadGoneError
from cluster.stores.parts import BufferedPartWriter
from cluster.stores.s3.checks import bare, checksum_of, crc_on_the_wire, md5_digits
from cluster.stores.s3.connection import Bucket
from cluster.stores.store import ObjectInfo, Part

DIGEST_TRIES = 3
SEND_BYTES = 256 << 10


class Body:
    """Bytes to send, without a copy; rewindable, because botocore sends them again on a retry."""

    def __init__(self, content: memoryview) -> None:
        self._content = content
        self._place = 0

    def __len__(self) -> int:
        return len(self._content)

    def read(self, size: int | None = -1) -> memoryview:
        """The next bytes, as a view."""
        # http.client asks for 16 KiB a call; larger pieces cost less.
        size = len(self) if size is None or size < 0 else max(size, SEND_BYTES)
        piece = self._content[self._place : self._place + size]
        self._place += len(piece)
        return piece

    def seek(self, place: int, whence: int = 0) -> int:
        """As files do."""
        self._place = place + (0, self._place, len(self))[whence]
        return self._place

    def tell(self) -> int:
        """As files do."""
        return self._place


class S3Upload:
    """A multipart upload; workers write parts, the driver completes."""

    def __init__(self, store: Bucket, key: str, upload_id: str, size: int) -> None:
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
            etag = self._send(number, content, digest.crc64nvme)
            return Part(number, offset, digest.size, etag, digest.crc64nvme, digest.sha256)

        return BufferedPartWriter(send, size=size, with_sha256=with_sha256)

    def _send(self, number: int, content: memoryview, crc: str) -> str:
        """One UploadPart; returns its ETag."""
        for _ in range(DIGEST_TRIES - 1):
            # A bit flipped on the way; botocore does not retry that.
            with contextlib.suppress(DigestError):
                return self._send_once(number, content, crc)
        return self._send_once(number, content, crc)

    def _send_once(self, number: int, content: memoryview, crc: str) -> str:
        check = self._store.find_part_check(self.key)
        checksum = checksum_of(check, content, crc)
        with self._asking() as client:
            answer = client.upload_part(
                **self._address, PartNumber=number, Body=Body(content), **checksum
            )
        etag = str(answer["ETag"])
        if check == "etag" and bare(etag) != md5_digits(content):
            raise DigestError(
                f"{self._store.uri}/{self.key}: part {number} arrived other than it was sent: "
                f"the store has {etag}"
            )
        return etag

    @contextlib.contextmanager
    def _asking(self) -> Iterator[Any]:
        """One request; some servers say "no such key" where others say "no such upload"."""
        try:
            with self._store.asking(self.key) as client:
                yield client
        except NotFoundError:
            raise UploadGoneError(
                f"upload {self.id} of {self._store.uri}/{self.key} is gone"
            ) from None

    def is_open(self) -> bool:
        try:
            with self._asking() as client:
                client.list_parts(**self._address, MaxParts=1)
        except UploadGoneError:
            return False
        return True

    def find_parts(self, parts: Iterable[Part], /) -> frozenset[int]:
        listed: dict[int, list[tuple[Any, tuple[int, str]]]] = {}
        try:
            for page in self._store.pages(
                "list_parts", self.key, Key=self._address["Key"], UploadId=self.id
            ):
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
        checksum = {}
        if self._store.find_part_check(self.key) == "crc64nvme":
            whole = combine_crc64nvme((part.crc64nvme, part.size) for part in ordered)
            checksum = {"ChecksumCRC64NVME": crc_on_the_wire(whole)}
        try:
            with self._asking() as client:
                client.complete_multipart_upload(
                    **self._address, MultipartUpload={"Parts": wanted}, **checksum
                )
        except (UploadGoneError, UnreachableError) as error:
            # Completed by an earlier try, or gone: the object itself tells.
            try:
                return self._finished()
            except UploadGoneError as gone:
                raise (error if isinstance(error, UnreachableError) else gone) from None
        return self._finished()

    def abort(self) -> None:
        try:
            with self._asking() as client:
                client.abort_multipart_upload(**self._address)
        except UploadGoneError:
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
