"""What a process found out about an S3 endpoint: how it checks parts, how it compares ETags."""

import hashlib
import threading
from base64 import b64encode
from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Any

from cluster.digests import crc64nvme
from cluster.errors import DigestError, UnsupportedError
from cluster.stores.store import PartCheck

Asking = Callable[[], AbstractContextManager[Any]]

PROBE = b"metafuse"
OTHER = b"another"


class Learned:
    """What one process knows about one endpoint.

    Attributes:
        lock: held by the thread that finds out the part check.
        part_check: how the endpoint verifies parts; None until it is known.
        takes_bare_etags: whether the endpoint honoured an If-Match on a write only without the
            quotes of the ETag (Ceph 16); it is then sent like that first.
        has_answered: whether the endpoint has answered any request of this process.
    """

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.part_check: PartCheck | None = None
        self.takes_bare_etags = False
        self.has_answered = False


def find_part_check(asking: Asking, address: dict[str, str], /) -> PartCheck:
    """Try out which wrong checksum of a part is refused, on an upload that is aborted at the end.

    Nothing is ever seen under the key, and no right is needed that a merge does not need.

    Args:
        asking: context in which one request is in flight: gives the client, and raises errors as
            ours.
        address: Bucket and Key of any object to be written.
    """
    with asking() as client:
        upload_id = client.create_multipart_upload(**address)["UploadId"]
    part = {**address, "UploadId": upload_id, "PartNumber": 1, "Body": PROBE}
    try:
        if _is_refused(asking, {**part, "ChecksumCRC64NVME": crc_on_the_wire(crc64nvme(OTHER))}):
            return "crc64nvme"
        if _is_refused(asking, {**part, "ContentMD5": md5_on_the_wire(OTHER)}):
            return "md5"
        with asking() as client:
            etag = client.upload_part(**part)["ETag"]
        return "etag" if bare(etag) == md5_digits(PROBE) else "none"
    finally:
        with asking() as client:
            client.abort_multipart_upload(**address, UploadId=upload_id)


def _is_refused(asking: Asking, part: dict[str, Any]) -> bool:
    """Whether the store found the wrong checksum; one that knows no such checksum did not."""
    try:
        with asking() as client:
            client.upload_part(**part)
    except DigestError:
        return True
    except UnsupportedError:
        return False
    return False


def checksum_of(check: PartCheck, content: memoryview | bytes, crc: str, /) -> dict[str, str]:
    """The checksum that travels with some bytes, as an argument of boto3's verbs.

    Args:
        check: how the endpoint verifies parts.
        content: the bytes that are sent.
        crc: CRC64NVME of the content, as digits.
    """
    if check == "md5":
        return {"ContentMD5": md5_on_the_wire(content)}
    return {"ChecksumCRC64NVME": crc_on_the_wire(crc)}


def crc_on_the_wire(digits: str) -> str:
    """A CRC as S3 writes it in headers."""
    return b64encode(bytes.fromhex(digits)).decode()


def md5_on_the_wire(content: memoryview | bytes) -> str:
    """The MD5 of some bytes as S3 writes it in headers."""
    return b64encode(bytes.fromhex(md5_digits(content))).decode()


def md5_digits(content: memoryview | bytes) -> str:
    """The MD5 of some bytes as stores put it in ETags: against accidents, not attackers."""
    return hashlib.md5(content, usedforsecurity=False).hexdigest()


def bare(etag: str) -> str:
    """An ETag without its quotes."""
    return etag.strip('"')
