"""What S3 servers answer, and whether it is what was asked for."""

import base64
from collections.abc import Mapping
from typing import Any

from cluster.errors import UnreachableError, UnsupportedError
from cluster.stores.s3.checks import bare


def check_span(where: str, answer: Mapping[str, Any], start: int) -> None:
    """Refuse a server that answered a request for a range with other bytes.

    Raises:
        UnsupportedError: the server ignores Range.
        UnreachableError: the server answered with another range.
    """
    span = str(answer.get("ContentRange", ""))
    if not span:
        raise UnsupportedError(
            f"{where}: the server ignores Range: asked for the bytes from {start}, it sent the "
            "whole object. Nothing was used.",
            "use a store that serves ranges",
        )
    if not span.startswith(f"bytes {start}-"):
        raise UnreachableError(f"{where}: asked for the bytes from {start}, it sent {span!r}")


def check_pin(where: str, answer: Mapping[str, Any], condition: Mapping[str, str]) -> None:
    """Refuse a server that answered a pinned request with another object.

    Raises:
        UnsupportedError: the server ignores If-Match or VersionId, so it sent another object.
    """
    for name, field in (("IfMatch", "ETag"), ("VersionId", "VersionId")):
        asked, found = condition.get(name), str(answer.get(field, ""))
        if asked is not None and bare(asked) != bare(found):
            raise UnsupportedError(
                f"{where}: the server ignores {name}: asked for {asked}, it sent "
                f"{found or 'none'}. Nothing was used.",
                "use a store that keeps conditions of reads",
            )


def condition_of(if_match: str | None, version: str | None) -> dict[str, str]:
    """The pin of a request; a version needs no ETag."""
    if version is not None:
        return {"VersionId": version}
    return {"IfMatch": if_match} if if_match is not None else {}


def version_of(answer: Mapping[str, Any]) -> str | None:
    """The VersionId of an answer, None where the bucket keeps no versions."""
    version = answer.get("VersionId")
    return None if version in (None, "null", "") else str(version)


def whole_crc(answer: Mapping[str, Any]) -> str:
    """The object's CRC64NVME as digits; "" where the store keeps none of the whole object."""
    found = answer.get("ChecksumCRC64NVME")
    if not found or answer.get("ChecksumType", "FULL_OBJECT") != "FULL_OBJECT":
        return ""
    return base64.b64decode(found).hex()
