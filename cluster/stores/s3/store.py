"""Objects in an S3 bucket, by boto3's client verbs.

Retries live in two places here: one request (botocore), and the rest of a body that broke (from
its offset, under the same pin). A failed precondition is never retried.
"""

import contextlib
import os
import time
from collections.abc import Iterator, Mapping
from typing import Any

from botocore.exceptions import (
    ClientError,
    FlexibleChecksumError,
    HTTPClientError,
    IncompleteReadError,
    ResponseStreamingError,
)

from cluster.digests import KnownCrc, crc64nvme
from cluster.errors import (
    ConflictError,
    DigestError,
    NotFoundError,
    PreconditionError,
    UnreachableError,
    UnsupportedError,
)
from cluster.stores.parts import PinnedReader
from cluster.stores.s3.answers import check_pin, check_span, condition_of, version_of, whole_crc
from cluster.stores.s3.checks import bare, checksum_of, find_part_check
from cluster.stores.s3.connection import Connection, open_connection
from cluster.stores.s3.errors import error_code, translated
from cluster.stores.s3.known_crcs import find_crc
from cluster.stores.s3.options import read_options
from cluster.stores.s3.upload import S3Upload
from cluster.stores.store import ObjectInfo, PartCheck, UploadInfo

# readinto of a whole range copies twice inside urllib3; slices do not.
SLICE_BYTES = 256 << 10
BODY_TRIES = 5
PUT_TRIES = 4
BROKEN_BODY = (
    IncompleteReadError,
    ResponseStreamingError,
    HTTPClientError,
    ConnectionError,
    FlexibleChecksumError,
)


class S3Store:
    """Objects under s3://bucket/prefix. Credentials, endpoint and region by the AWS chain."""

    is_remote = True

    def __init__(self, uri: str) -> None:
        self.uri = uri.rstrip("/")
        self._bucket, _, prefix = self.uri.removeprefix("s3://").partition("/")
        self._prefix = prefix + "/" if prefix else ""
        if not self._bucket:
            raise UnsupportedError(f"{uri} names no bucket", "write s3://BUCKET/PREFIX")
        if self._bucket.startswith("arn:"):
            raise UnsupportedError(
                f"{uri} names its bucket by an ARN, which is not read; nothing was read",
                "write s3://BUCKET/PREFIX; an access point has an alias that stands for the bucket",
            )

    @property
    def connection(self) -> Connection:
        """The client of this process, and what goes with it."""
        options = read_options(os.environ)
        with translated(self.uri, ""):
            chain = tuple(sorted((k, v) for k, v in os.environ.items() if k.startswith("AWS_")))
            return open_connection(os.getpid(), chain, options)

    @property
    def client(self) -> Any:
        """The boto3 client of this process."""
        return self.connection.client

    @contextlib.contextmanager
    def asking(self, key: str) -> Iterator[Any]:
        """A client for one request, counted among those in flight; errors as ours."""
        connection = self.connection
        place = connection.client.meta.endpoint_url
        with translated(self.uri, key, endpoint=place), connection.pace.slot():
            yield connection.client

    def address(self, key: str) -> dict[str, str]:
        """Bucket and Key, as every verb wants them."""
        if not key or key.startswith("/") or ".." in key.split("/") or "\0" in key:
            raise UnsupportedError(f"{key!r} is not a key: it would leave {self.uri}")
        return {"Bucket": self._bucket, "Key": self._prefix + key}

    def head(self, key: str, /, *, version: str | None = None) -> ObjectInfo:
        address, condition = self.address(key), condition_of(None, version)
        with self.asking(key) as client:
            try:
                answer = client.head_object(**address, **condition, ChecksumMode="ENABLED")
            except ClientError as error:
                if error_code(error) in ("400", "403"):
                    # An answer to HEAD has no body, so only a GET tells what is wrong.
                    client.get_object(**address, **condition, Range="bytes=0-0")["Body"].close()
                raise
        return ObjectInfo(
            key,
            answer["ContentLength"],
            answer["ETag"],
            version_of(answer),
            answer["LastModified"].timestamp(),
            answer.get("Metadata", {}),
            whole_crc(answer),
        )

    def find_crc(
        self,
        key: str,
        /,
        *,
        if_match: str | None = None,
        version: str | None = None,
        every_part: bool = False,
    ) -> KnownCrc | None:
        pin = condition_of(if_match, version)
        return find_crc(self, key, pin, every_part=every_part)

    def list(self, prefix: str = "", /) -> Iterator[ObjectInfo]:
        for page in self.pages("list_objects_v2", prefix, Prefix=self._prefix + prefix):
            for entry in page.get("Contents", ()):
                key = entry["Key"].removeprefix(self._prefix)
                if key and not key.endswith("/"):
                    modified = entry["LastModified"].timestamp()
                    yield ObjectInfo(key, entry["Size"], entry["ETag"], None, modified)

    def pages(self, verb: str, key: str, **arguments: str) -> Iterator[Mapping[str, Any]]:
        """Answers of a verb that comes in pages; nothing is in flight between two of them."""
        with self.asking(key) as client:
            pages = iter(client.get_paginator(verb).paginate(Bucket=self._bucket, **arguments))
            page = next(pages, None)
        while page is not None:
            yield page
            with self.asking(key):
                page = next(pages, None)

    def read(
        self, key: str, /, *, if_match: str | None = None, version: str | None = None
    ) -> bytes:
        address, condition = self.address(key), condition_of(if_match, version)
        for tries in range(BODY_TRIES):
            _pause(tries)
            with self.asking(key) as client:
                # Where the store keeps a checksum of the object, botocore compares it.
                answer = client.get_object(**address, **condition, ChecksumMode="ENABLED")
                with contextlib.closing(answer["Body"]) as body:
                    check_pin(f"{self.uri}/{key}", answer, condition)
                    try:
                        content: bytes = body.read()
                    except BROKEN_BODY:
                        continue
            if len(content) == answer["ContentLength"]:
                return content
        raise UnreachableError(f"{self.uri}/{key}: the body broke off {BODY_TRIES} times")

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
        address, condition = self.address(key), condition_of(if_match, version)
        done = breaks = 0
        while done < len(buffer):
            # Every whole MiB that has come pays for one break.
            tries = max(0, breaks - (done >> 20))
            if tries == BODY_TRIES:
                raise UnreachableError(
                    f"{self.uri}/{key}: bytes {start} to {start + len(buffer)} broke off "
                    f"{breaks} times, {done} arrived"
                )
            _pause(tries)
            span = f"bytes={start + done}-{start + len(buffer) - 1}"
            with self.asking(key) as client:
                answer = client.get_object(**address, Range=span, **condition)
                with contextlib.closing(answer["Body"]) as body:
                    check_span(f"{self.uri}/{key}", answer, start + done)
                    check_pin(f"{self.uri}/{key}", answer, condition)
                    done += _pour(body, buffer[done:])
            breaks += done < len(buffer)

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
        condition = {"IfNoneMatch": "*"} if if_absent else condition_of(if_match, None)
        for _ in range(PUT_TRIES - 1):
            # Another write was under way, or a bit flipped: nothing was written.
            with contextlib.suppress(ConflictError, DigestError):
                return self._put(key, data, condition)
        return self._put(key, data, condition)

    def delete(self, key: str, /) -> None:
        address = self.address(key)
        with self.asking(key) as client:
            client.delete_object(**address)

    def start_upload(self, key: str, /, *, size: int, metadata: Mapping[str, str]) -> S3Upload:
        address, checksum = self.address(key), {}
        if self.find_part_check(key) != "md5":
            checksum = {"ChecksumAlgorithm": "CRC64NVME", "ChecksumType": "FULL_OBJECT"}
        with self.asking(key) as client:
            answer = client.create_multipart_upload(**address, Metadata=dict(metadata), **checksum)
        return S3Upload(self, key, answer["UploadId"], size)

    def resume_upload(self, key: str, upload_id: str, /, *, size: int) -> S3Upload:
        return S3Upload(self, key, upload_id, size)

    def list_uploads(self, prefix: str = "", /) -> Iterator[UploadInfo]:
        found = [
            UploadInfo(
                entry["Key"].removeprefix(self._prefix),
                entry["UploadId"],
                entry["Initiated"].timestamp(),
            )
            for page in self.pages("list_multipart_uploads", prefix, Prefix=self._prefix + prefix)
            for entry in page.get("Uploads", ())
        ]
        yield from sorted(found, key=lambda upload: (upload.key, upload.id))

    def find_part_check(self, key: str, /) -> PartCheck:
        learned = self.connection.learned
        with learned.lock:
            if learned.part_check is None:
                learned.part_check = find_part_check(lambda: self.asking(key), self.address(key))
            return learned.part_check

    def _put(self, key: str, data: bytes, condition: Mapping[str, str]) -> ObjectInfo:
        """One PUT, and another one where If-Match failed only for the quotes of its ETag."""
        etag = condition.get("IfMatch", "")
        if bare(etag) == etag:
            return self._put_once(key, data, condition)
        learned = self.connection.learned
        forms = (bare(etag), etag) if learned.takes_bare_etags else (etag, bare(etag))
        try:
            return self._put_once(key, data, {"IfMatch": forms[0]})
        except PreconditionError:
            if not self._has_etag(key, etag):
                raise
        written = self._put_once(key, data, {"IfMatch": forms[1]})
        learned.takes_bare_etags = forms[1] != etag
        return written

    def _put_once(self, key: str, data: bytes, condition: Mapping[str, str]) -> ObjectInfo:
        address = self.address(key)
        checksum = checksum_of(self.find_part_check(key), data, crc64nvme(data))
        try:
            with self.asking(key) as client:
                answer = client.put_object(**address, Body=data, **checksum, **condition)
        except NotFoundError:
            if not condition:
                raise
            # Some servers answer 404 to If-Match on a key that is not there, others 412.
            raise PreconditionError(f"{self.uri}/{key} does not exist") from None
        return ObjectInfo(key, len(data), answer["ETag"], version_of(answer), 0.0)

    def _has_etag(self, key: str, etag: str) -> bool:
        try:
            return bare(self.head(key).etag) == bare(etag)
        except NotFoundError:
            return False


def _pause(tries: int) -> None:
    """Wait after so many broken bodies: 0.1 s, then twice as long each time."""
    if tries:
        time.sleep(0.05 * 2**tries)


def _pour(body: Any, buffer: memoryview) -> int:
    """Read a body into a buffer; returns how many bytes came before it ended or broke."""
    done = 0
    try:
        while done < len(buffer):
            count = body.readinto(buffer[done : done + SLICE_BYTES])
            if not count:
                break
            done += count
    except BROKEN_BODY:
        pass
    return done
