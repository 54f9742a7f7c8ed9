"""What the environment says about requests to S3."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal, cast, get_args

from cluster.errors import UnsupportedError

Checksum = Literal["auto", "crc64nvme", "md5"]
Addressing = Literal["auto", "path", "virtual"]
MOST = 10_000


@dataclass(frozen=True, slots=True)
class S3Options:
    """How requests are made. The environment overrides the defaults.

    Attributes:
        retries: tries of a request after the first one (METAFUSE_S3_RETRIES).
        connect_seconds: seconds to wait for a connection (METAFUSE_S3_CONNECT_SECONDS).
        read_seconds: seconds to wait between two bytes of an answer (METAFUSE_S3_READ_SECONDS).
        outage_seconds: seconds that a store which has answered before may be away
            (METAFUSE_S3_OUTAGE_SECONDS); 0 waits for none.
        connections: requests in flight and connections kept open, per process
            (METAFUSE_S3_CONNECTIONS).
        addressing: where the bucket's name stands in the URL (METAFUSE_S3_ADDRESSING); "auto" puts
            it into the host name on AWS and into the path elsewhere.
        checksum: checksum that written parts travel with (METAFUSE_S3_CHECKSUM); "auto" tries out
            which one the store verifies.
        requester_pays: whether the sender of a request pays for it (METAFUSE_S3_REQUESTER_PAYS).
    """

    retries: int = 6
    connect_seconds: float = 5.0
    read_seconds: float = 30.0
    outage_seconds: int = 60
    connections: int = 32
    addressing: Addressing = "auto"
    checksum: Checksum = "auto"
    requester_pays: bool = False


def read_options(environment: Mapping[str, str], /) -> S3Options:
    """The options, overridden by environment variables; an empty variable overrides nothing.

    Raises:
        UnsupportedError: a value that means nothing.
    """
    usual = S3Options()
    found = {
        name: environment.get(f"METAFUSE_S3_{name}", "").strip()
        for name in (
            "RETRIES", "CONNECT_SECONDS", "READ_SECONDS", "OUTAGE_SECONDS", "CONNECTIONS",
            "ADDRESSING", "CHECKSUM", "REQUESTER_PAYS",
        )
    }  # fmt: skip
    addressing = _choice(found, "ADDRESSING", get_args(Addressing))
    checksum = _choice(found, "CHECKSUM", get_args(Checksum))
    return S3Options(
        retries=_count(found, "RETRIES", usual.retries, least=0),
        connect_seconds=_seconds(found, "CONNECT_SECONDS", usual.connect_seconds),
        read_seconds=_seconds(found, "READ_SECONDS", usual.read_seconds),
        outage_seconds=_count(found, "OUTAGE_SECONDS", usual.outage_seconds, least=0),
        connections=_count(found, "CONNECTIONS", usual.connections, least=1),
        addressing=cast("Addressing", addressing),
        checksum=cast("Checksum", checksum),
        requester_pays=_choice(found, "REQUESTER_PAYS", ("0", "1")) == "1",
    )


def _count(found: Mapping[str, str], name: str, usual: int, *, least: int) -> int:
    text = found[name]
    if text and not (text.isascii() and text.isdigit() and least <= int(text) <= MOST):
        raise _wrong(name, text, f"a whole number from {least} to {MOST}")
    return int(text or usual)


def _seconds(found: Mapping[str, str], name: str, usual: float) -> float:
    try:
        number = float(found[name] or usual)
    except ValueError:
        number = 0.0
    if not 0 < number <= MOST:
        raise _wrong(name, found[name], f"seconds, more than 0 and at most {MOST}")
    return number


def _choice(found: Mapping[str, str], name: str, words: tuple[str, ...]) -> str:
    """One of the words, the first where nothing is said."""
    text = found[name] or words[0]
    if text not in words:
        raise _wrong(name, text, " or ".join(words))
    return text


def _wrong(name: str, found: str, expected: str) -> UnsupportedError:
    return UnsupportedError(
        f"METAFUSE_S3_{name} is {found!r}, expected {expected}. Nothing was read or written.",
        f"correct or unset METAFUSE_S3_{name}",
    )
