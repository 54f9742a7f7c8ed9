"""Objects in an S3 bucket, by boto3's client verbs.

Retries live in two places here: one request (botocore), and the rest of a body that broke (from
its offset, under the same pin). A failed precondition is never retried.
"""

import base64
import contextlib
import logging
import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import boto3
from botocore.config import Config
from botocore.exceptions import (
    FlexibleChecksumError,
    HTTPClientError,
    IncompleteReadError,
    ResponseStreamingError,
)

from cluster.digests import crc64nvme
from cluster.errors import (
    ConflictError,
    DigestError,
    NotFoundError,
    PreconditionError,
    UnreachableError,
    UnsupportedError,
)
from cluster.parts import PinnedReader
from cluster.s3_errors import translated
from cluster.s3_upload import S3Upload, crc_on_the_wire
from cluster.store import ObjectInfo, UploadInfo

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

for name in ("botocore", "boto3", "urllib3"):
    # At DEBUG botocore prints headers and signatures.
    logging.getLogger(name).setLevel(logging.INFO)


@dataclass(frozen=True, slots=True)
class S3Options:
    """How patient requests are. The environment overrides the defaults.

    Attributes:
        retries: per request, after the first try (METAFUSE_S3_RETRIES).
        connect_seconds: METAFUSE_S3_CONNECT_SECONDS.
        read_seconds: between two bytes of an answer (METAFUSE_S3_READ_SECONDS).
        connections: kept open per process (METAFUSE_S3_CONNECTIONS).
    """

    retries: int = 6
    connect_seconds: float = 5.0
    read_seconds: float = 30.0
    connections: int = 32


def read_options(environment: Mapping[str, str]) -> S3Options:
    """Options with what the environment overrides."""
    default = S3Options()

    def number(name: str, usual: float) -> float:
        return float(environment.get(f"METAFUSE_S3_{name}", usual))

    return S3Options(
        retries=int(number("RETRIES", default.retries)),
        connect_seconds=number("CONNECT_SECONDS", default.connect_seconds),
        read_seconds=number("READ_SECONDS", default.read_seconds),
        connections=int(number("CONNECTIONS", default.connections)),
    )


@lru_cache(maxsize=16)
def _client(
    process: int,
    chain: tuple[tuple[str, str], ...],
    endpoint: str | None,
    region: str | None,
    options: S3Options,
) -> Any:
    """One client a process and credential chain: clients do not survive a fork."""
    style = "path" if endpoint else "auto"
    config = Config(
        retries={"mode": "standard", "max_attempts": options.retries},
        max_pool_connections=options.connections,
        tcp_keepalive=True,
        connect_timeout=options.connect_seconds,
        read_timeout=options.read_seconds,
        request_checksum_calculation="when_required",
        response_checksum_validation="when_required",
        # Hashing each part for its signature halves upload speed; parts carry a CRC instead.
        s3={"payload_signing_enabled": False, "addressing_style": style},
    )
    return boto3.session.Session().client("s3", config=config, region_name=region)


class S3Store:
    """Objects under s3://bucket/prefix. Credentials, endpoint and region by the AWS chain."""

    is_remote = True

    def __init__(self, uri: str) -> None:
        self.uri = uri.rstrip("/")
        self._bucket, _, prefix = self.uri.removeprefix("s3://").partition("/")
        self._prefix = prefix + "/" if prefix else ""
        if not self._bucket:
            raise UnsupportedError(f"{uri} names no bucket", "write s3://BUCKET/PREFIX")

    @property
    def client(self) -> Any:
        """The boto3 client of this process."""
        endpoint = os.environ.get("AWS_ENDPOINT_URL_S3") or os.environ.get("AWS_ENDPOINT_URL")
        region = os.environ.get("AWS_REGION") or os.environ.get("AWS_DEFAULT_REGION")
        if endpoint and not region:
            region = "us-east-1"
        with translated(self.uri, ""):
            chain = tuple(sorted((k, v) for k, v in os.environ.items() if k.startswith("AWS_")))
            return _client(os.getpid(), chain, endpoint, region, read_options(os.environ))

    def address(self, key: str) -> dict[str, str]:
        """Bucket and Key, as every verb wants them."""
        if not key or key.startswith("/") or ".." in key.split("/") or "\0" in key:
            raise UnsupportedError(f"{key!r} is not a key: it would leave {self.uri}")
        return {"Bucket": self._bucket, "Key": self._prefix + key}

    def head(self, key: str, /, *, version: str | None = None) -> ObjectInfo:
        with translated(self.uri, key):
            answer = self.client.head_object(
                **self.address(key), **_condition(None, version), ChecksumMode="ENABLED"
            )
        return ObjectInfo(
            key,
            answer["ContentLength"],
            answer["ETag"],
            _version(answer),
            answer["LastModified"].timestamp(),
            answer.get("Metadata", {}),
            _whole_crc(answer),
        )

    def list(self, prefix: str = "", /) -> Iterator[ObjectInfo]:
        pages = self.client.get_paginator("list_objects_v2")
        with translated(self.uri, prefix):
            for page in pages.paginate(Bucket=self._bucket, Prefix=self._prefix + prefix):
                for entry in page.get("Contents", ()):
                    key = entry["Key"].removeprefix(self._prefix)
                    if key and not key.endswith("/"):
                        modified = entry["LastModified"].timestamp()
                        yield ObjectInfo(key, entry["Size"], entry["ETag"], None, modified)

    def read(
        self, key: str, /, *, if_match: str | None = None, version: str | None = None
    ) -> bytes:
        condition = _condition(if_match, version)
        for _ in range(BODY_TRIES):
            with translated(self.uri, key):
                # Where the store keeps a checksum of the object, botocore compares it.
                answer = self.client.get_object(
                    **self.address(key), **condition, ChecksumMode="ENABLED"
                )
                try:
                    content: bytes = answer["Body"].read()
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
        condition = _condition(if_match, version)
        done = tries = 0
        while done < len(buffer):
            if tries == BODY_TRIES:
                raise UnreachableError(
                    f"{self.uri}/{key}: bytes {start} to {start + len(buffer)} broke off "
                    f"{BODY_TRIES} times, {done} arrived"
                )
            before = done
            span = f"bytes={start + done}-{start + len(buffer) - 1}"
            with translated(self.uri, key):
                answer = self.client.get_object(**self.address(key), Range=span, **condition)
                self._check_span(key, answer, start + done)
                done += _pour(answer["Body"], buffer[done:])
            tries = tries + 1 if done == before else 1

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
        condition = {"IfNoneMatch": "*"} if if_absent else _condition(if_match, None)
        for _ in range(PUT_TRIES - 1):
            # Another write was under way, or a bit flipped: nothing was written.
            with contextlib.suppress(ConflictError, DigestError):
                return self._put(key, data, condition)
        return self._put(key, data, condition)

    def delete(self, key: str, /) -> None:
        with translated(self.uri, key):
            self.client.delete_object(**self.address(key))

    def start_upload(self, key: str, /, *, size: int, metadata: Mapping[str, str]) -> S3Upload:
        with translated(self.uri, key):
            answer = self.client.create_multipart_upload(
                **self.address(key),
                Metadata=dict(metadata),
                ChecksumAlgorithm="CRC64NVME",
                ChecksumType="FULL_OBJECT",
            )
        return S3Upload(self, key, answer["UploadId"], size)

    def resume_upload(self, key: str, upload_id: str, /, *, size: int) -> S3Upload:
        return S3Upload(self, key, upload_id, size)

    def list_uploads(self, prefix: str = "", /) -> Iterator[UploadInfo]:
        pages = self.client.get_paginator("list_multipart_uploads")
        found = []
        with translated(self.uri, prefix):
            for page in pages.paginate(Bucket=self._bucket, Prefix=self._prefix + prefix):
                for entry in page.get("Uploads", ()):
                    key = entry["Key"].removeprefix(self._prefix)
                    started = entry["Initiated"].timestamp()
                    found.append(UploadInfo(key, entry["UploadId"], started))
        yield from sorted(found, key=lambda upload: (upload.key, upload.id))

    def _put(self, key: str, data: bytes, condition: Mapping[str, str]) -> ObjectInfo:
        try:
            with translated(self.uri, key):
                answer = self.client.put_object(
                    **self.address(key),
                    Body=data,
                    ChecksumCRC64NVME=crc_on_the_wire(crc64nvme(data)),
                    **condition,
                )
        except NotFoundError:
            # Some servers answer 404 to If-Match on a key that is not there, others 412.
            raise PreconditionError(f"{self.uri}/{key} does not exist") from None
        return ObjectInfo(key, len(data), answer["ETag"], _version(answer), 0.0)

    def _check_span(self, key: str, answer: Mapping[str, Any], start: int) -> None:
        """A server that ignores Range answers 200 with the whole object: refuse it."""
        if not str(answer.get("ContentRange", "")).startswith(f"bytes {start}-"):
            raise UnreachableError(
                f"{self.uri}/{key}: the server answered {answer.get('ContentRange')!r} to a "
                f"request for bytes from {start}"
            )


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
    finally:
        body.close()
    return done


def _condition(if_match: str | None, version: str | None) -> dict[str, str]:
    if version is not None:
        return {"VersionId": version}
    return {"IfMatch": if_match} if if_match is not None else {}


def _version(answer: Mapping[str, Any]) -> str | None:
    version = answer.get("VersionId")
    return None if version in (None, "null", "") else str(version)


def _whole_crc(answer: Mapping[str, Any]) -> str:
    """The object's CRC64NVME as digits; "" where the store keeps none of the whole object."""
    found = answer.get("ChecksumCRC64NVME")
    if not found or answer.get("ChecksumType", "FULL_OBJECT") != "FULL_OBJECT":
        return ""
    return base64.b64decode(found).hex()
