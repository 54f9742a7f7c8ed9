"""Objects by key: one protocol over memory, a local folder and S3."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal, Protocol

from cluster.digests import KnownCrc

# How a part is verified on its way. crc64nvme, md5: the store refuses one whose checksum does not
# fit. etag: it answers with the MD5 of what arrived, which is compared here. none: neither.
# local: it does not travel.
PartCheck = Literal["crc64nvme", "md5", "etag", "none", "local"]


@dataclass(frozen=True, slots=True)
class ObjectInfo:
    """What a store says about one object.

    Attributes:
        key: key relative to the store's URI, with "/" between parts.
        size: size of the object in bytes.
        etag: changes whenever the content does; callers pass it back as `if_match`.
        version: S3 VersionId where the bucket keeps versions, else None.
        modified: time of the last write in seconds since 1970, by the store's own clock.
        metadata: what `start_upload` was given, where the store keeps it (only from `head`); else
            empty.
        crc64nvme: CRC64NVME of the whole object, 16 hexadecimal digits, where the store keeps it
            (only from `head`); else "".
        outside: path of the file that the key leads to where a link leaves the store; else "". Such
            an object is read only with its etag: whoever names that has seen where it lies.
        changed_ns: time of the last change of a file or of what is said of it, in nanoseconds since
            1970; 0 where the store does not tell. Nobody can set it. `seals.seal` has its use.
    """

    key: str
    size: int
    etag: str
    version: str | None
    modified: float
    metadata: Mapping[str, str] = field(default_factory=dict)
    crc64nvme: str = ""
    outside: str = ""
    changed_ns: int = 0


@dataclass(frozen=True, slots=True)
class Part:
    """One written part of an upload: enough to find out later whether it is really there.

    `sha256` is "" where it was not asked for.
    """

    number: int
    offset: int
    size: int
    etag: str
    crc64nvme: str
    sha256: str


@dataclass(frozen=True, slots=True)
class UploadInfo:
    """An upload that was begun and neither completed nor aborted.

    Attributes:
        key: key of the object that the upload would become, relative to the store's URI.
        id: id of the upload, for `resume_upload`.
        started: begin of the upload in seconds since 1970, by the store's own clock.
        size: bytes that the store keeps for the upload; 0 where it does not tell.
    """

    key: str
    id: str
    started: float
    size: int = 0


class Reader(Protocol):
    """One pinned object, read in ranges. Safe between threads."""

    def read_into(self, buffer: memoryview, /, *, start: int) -> None:
        """Fill `buffer` from byte `start`, or raise as `Store.read_into` does."""

    def close(self) -> None:
        """Let go of it. Safe to repeat."""


class PartWriter(Protocol):
    """The bytes of one part, in order. Not shared between threads."""

    def append(self, data: memoryview, /) -> None:
        """Take the next bytes; the buffer is free again when this returns.

        Raises:
            UploadGoneError: aborted or completed meanwhile.
            FullError: no space.
        """

    def finish(self) -> Part:
        """Make sure that the store has all bytes of the part. Raises as `append`.

        Raises:
            ValueError: not as many bytes as announced.
        """

    def discard(self) -> None:
        """Let go of an unfinished part. Safe to repeat, and after `finish`."""


class Upload(Protocol):
    """A large object in the making. It appears under its key only at `complete`."""

    key: str
    id: str

    def start_part(
        self, number: int, /, *, offset: int, size: int, with_sha256: bool
    ) -> PartWriter:
        """Begin one part; parts may come in any order, from several processes, twice.

        Args:
            number: number of the part, from 1, in the order of offsets.
            offset: byte offset of the part in the object.
            size: bytes of the part; all parts but the last have one size.
            with_sha256: whether the part's sha256 is computed too (a CRC64NVME always is).

        Raises:
            UploadGoneError: aborted or completed meanwhile.
        """

    def is_open(self) -> bool:
        """False once the upload was completed or aborted, or if it never was."""

    def find_parts(self, parts: Iterable[Part], /) -> frozenset[int]:
        """Numbers of those `parts` that are stored just as described.

        S3 asks ListParts for size and ETag; a folder reads the range again and compares digests.
        """

    def complete(self, parts: Sequence[Part], /) -> ObjectInfo:
        """Make the object appear, whole, under its key. Safe to repeat.

        Raises:
            UploadGoneError: the upload is gone and the object is not there.
        """

    def abort(self) -> None:
        """Forget the upload and its parts. Safe to repeat."""


class Store(Protocol):
    """Objects under one URI. Instances are cheap, safe between threads, and picklable.

    `is_remote` says that an answer takes milliseconds: few large requests, several at a time.
    """

    uri: str
    is_remote: bool

    def head(self, key: str, /, *, version: str | None = None) -> ObjectInfo:
        """What is known about one object, or about one version of it.

        Raises:
            NotFoundError: no such object.
        """

    def find_crc(
        self,
        key: str,
        /,
        *,
        if_match: str | None = None,
        version: str | None = None,
        every_part: bool = False,
    ) -> KnownCrc | None:
        """The CRC that the store keeps of one object, for comparing what arrives of it.

        None where it keeps none, or one that cannot be made from ranges (SHA-256, MD5). Takes one
        request, for a CRC of parts' CRCs three: where number, first and last part allow it, the
        parts are taken to be of one size, as all usual tools make them.

        Args:
            key: key of the object.
            if_match: etag that the object must have; None for no condition.
            version: version to ask about; `if_match` is then not asked.
            every_part: whether each part is asked for its size, one request each.

        Raises:
            NotFoundError: no such object.
            PreconditionError: its etag is not `if_match`.
        """

    def list(self, prefix: str = "", /) -> Iterator[ObjectInfo]:
        """All objects whose key starts with `prefix`, at any depth, sorted by key.

        Raises:
            MissingPlaceError: the bucket does not exist. (A missing folder lists nothing.)
        """

    def read(
        self, key: str, /, *, if_match: str | None = None, version: str | None = None
    ) -> bytes:
        """One small object, whole. Errors as `read_into`."""

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
        """Fill `buffer` from byte `start` of the object, or raise.

        With `version` that version is read and `if_match` is not asked.

        Raises:
            NotFoundError: no such object.
            PreconditionError: its etag is not `if_match`. Never retried.
            UnreachableError: the range is not there in full, or the store does not answer.
        """

    def open_reader(
        self, key: str, /, *, if_match: str | None = None, version: str | None = None
    ) -> Reader:
        """One object for many ranged reads under one pin; errors as `read_into`, some only then."""

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
        """Write one small object atomically: readers see the old bytes or the new.

        Args:
            key: key of the object.
            data: content of the object.
            if_match: write only if the object has this etag now; None for no condition.
            if_absent: write only if there is no such object.
            is_durable: False if the object may be lost, or left empty, when the power fails.

        Raises:
            PreconditionError: `if_match` does not hold, or `if_absent` and it exists. After a
                lost answer this can be our own first try: read the object and ask "is it mine?".
        """

    def delete(self, key: str, /) -> None:
        """Remove one object; nothing happens if there is none."""

    def start_upload(self, key: str, /, *, size: int, metadata: Mapping[str, str]) -> Upload:
        """Begin an object of `size` bytes, written in parts."""

    def resume_upload(self, key: str, upload_id: str, /, *, size: int) -> Upload:
        """The upload that `start_upload` began, here or in another process. Asks nothing yet."""

    def list_uploads(self, prefix: str = "", /) -> Iterator[UploadInfo]:
        """All unfinished uploads whose key starts with `prefix`, sorted by key."""

    def find_part_check(self, key: str, /) -> PartCheck:
        """How the store verifies written bytes; tried out once a process and endpoint.

        Args:
            key: key of any object that the caller may write; nothing appears there.
        """
