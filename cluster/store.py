"""Objects by key: one protocol over memory, a local folder and S3."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from cluster.errors import UnsupportedError


@dataclass(frozen=True, slots=True)
class ObjectInfo:
    """What a store says about one object.

    Attributes:
        key: relative to the store's URI, "/" between parts.
        size: bytes.
        etag: changes whenever the content does; pass it back as `if_match`.
        version: S3 VersionId where the bucket keeps versions, else None.
        modified: seconds since 1970, by the store's own clock.
        metadata: what `start_upload` was given, where the store keeps it (only from `head`).
    """

    key: str
    size: int
    etag: str
    version: str | None
    modified: float
    metadata: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Part:
    """One written part of an upload: enough to find out later whether it is really there."""

    number: int
    offset: int
    size: int
    etag: str
    sha256: str


class Upload(Protocol):
    """A large object in the making. Nobody sees it under its key before `complete`."""

    key: str
    id: str

    def write_part(self, number: int, data: memoryview, /, *, offset: int, sha256: str) -> Part:
        """Write one part; parts may come in any order, from several processes, twice.

        Args:
            number: from 1, in the order of offsets.
            data: the bytes; all parts but the last have one size.
            offset: where the part starts in the object.
            sha256: hex digest of `data`, made by the caller.

        Raises:
            UploadGoneError: aborted or completed meanwhile.
            FullError: no space.
        """

    def is_open(self) -> bool:
        """False once the upload was completed or aborted, or if it never was."""

    def find_parts(self, parts: Iterable[Part], /) -> frozenset[int]:
        """Numbers of those `parts` that are stored just as described.

        S3 asks ListParts for size and ETag; a folder reads the range again and compares sha256.
        """

    def complete(self, parts: Sequence[Part], /) -> ObjectInfo:
        """Make the object appear, whole, under its key. Safe to repeat.

        Raises:
            UploadGoneError: the upload is gone and the object is not there.
        """

    def abort(self) -> None:
        """Forget the upload and its parts. Safe to repeat."""


class Store(Protocol):
    """Objects under one URI. Instances are cheap, safe between threads, and picklable."""

    uri: str

    def head(self, key: str, /) -> ObjectInfo:
        """What is known about one object.

        Raises:
            NotFoundError: no such object.
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

    def put(
        self,
        key: str,
        data: bytes,
        /,
        *,
        if_match: str | None = None,
        if_absent: bool = False,
    ) -> ObjectInfo:
        """Write one small object atomically: readers see the old bytes or the new.

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


def open_store(uri: str) -> Store:
    """The store behind a URI; nothing is asked of it yet.

    Args:
        uri: a path, file:///path, s3://bucket/prefix, or memory://name (this process only).

    Raises:
        UnsupportedError: another scheme, or a URI that carries a user name or password.
    """
    scheme, separator, rest = uri.partition("://")
    if not separator:
        scheme, rest = "file", uri
    elif "@" in rest.partition("/")[0]:
        raise UnsupportedError(
            f"a {scheme}:// URI carries credentials; nothing was read",
            "credentials come from the environment or a profile, never from a URI",
        )
    if scheme == "s3":
        from cluster.s3 import S3Store

        return S3Store(uri)
    if scheme == "memory":
        from cluster.memory import MemoryStore

        return MemoryStore(uri)
    if scheme == "file":
        from cluster.local import LocalStore

        return LocalStore(rest)
    raise UnsupportedError(
        f"{scheme}:// is not a store that metafuse reads: {uri}. Nothing was read.",
        OTHER_SCHEMES.get(scheme, "use a folder or an s3:// URI"),
    )


OTHER_SCHEMES = {
    "gs": "Google Cloud Storage speaks S3: use s3://BUCKET/... with an HMAC key and "
    "AWS_ENDPOINT_URL_S3=https://storage.googleapis.com",
    "az": "put an S3 gateway in front of Azure and use s3://BUCKET/... with AWS_ENDPOINT_URL_S3",
    "hf": "download the repository once (hf download) and give the folder or an s3:// URI",
}
