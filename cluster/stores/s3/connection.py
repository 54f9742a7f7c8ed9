"""One client a process and credential chain, with its pace and what was learned of the server."""

import logging
import re
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Protocol
from urllib.parse import urlsplit

import boto3
from botocore.config import Config
from botocore.exceptions import (
    BotoCoreError,
)

from cluster.errors import UnsupportedError
from cluster.stores.s3.checks import Learned
from cluster.stores.s3.errors import check_redirect
from cluster.stores.s3.options import S3Options
from cluster.stores.s3.outage import make_waiter
from cluster.stores.s3.pace import Pace
from cluster.stores.store import ObjectInfo, PartCheck


@dataclass(frozen=True, slots=True)
class Connection:
    """What a process keeps for one endpoint and credential chain."""

    client: Any
    options: S3Options
    pace: Pace
    learned: Learned


class Bucket(Protocol):
    """What an upload needs of the store it belongs to."""

    uri: str

    def address(self, key: str) -> dict[str, str]:
        """Bucket and Key, as every verb wants them."""

    def asking(self, key: str) -> AbstractContextManager[Any]:
        """A client for one request, counted among those in flight; errors as ours."""

    def pages(self, verb: str, key: str, **arguments: Any) -> Iterator[Any]:
        """Pages of a listing, one request each."""

    def find_part_check(self, key: str) -> PartCheck:
        """How the server checks the parts that it receives."""

    def head(self, key: str, /) -> ObjectInfo:
        """What is stored under a key."""


# By process: what a fork inherits is not its own. Threads that race for an entry get the same one.
PACES: dict[tuple[int, int], Pace] = {}


LEARNED: dict[tuple[int, str], Learned] = {}


@lru_cache(maxsize=16)
def open_connection(
    process: int, chain: tuple[tuple[str, str], ...], options: S3Options
) -> Connection:
    """One client a process and credential chain (the AWS_ variables): none survives a fork."""
    keep_secrets_out_of_logs()
    session = boto3.session.Session()
    has_endpoint = any(name in {"AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT_URL"} for name, _ in chain)
    try:
        client = _client(session, options, is_aws=not has_endpoint)
        if not has_endpoint and not _is_aws(client):  # an endpoint from a profile
            client = _client(session, options, is_aws=False)
    except ValueError as error:
        if isinstance(error, BotoCoreError):
            raise
        raise _bad_endpoint(dict(chain)) from None
    pace = PACES.setdefault((process, options.connections), Pace(options.connections))

    _listen(client, pace, options)
    learned = LEARNED.setdefault((process, client.meta.endpoint_url), Learned())
    client.meta.events.register("needs-retry.s3", make_waiter(learned, options.outage_seconds))
    if options.checksum != "auto" or _is_aws(client):
        # AWS documents that it verifies CRC64NVME; only others are tried out.
        learned.part_check = "md5" if options.checksum == "md5" else "crc64nvme"
    return Connection(client, options, pace, learned)


def _bad_endpoint(chain: Mapping[str, str]) -> UnsupportedError:
    """Names the variable that is no URL; what may be a secret in it is left out."""
    names = ("AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT_URL")
    name = next((name for name in names if chain.get(name)), "")
    value = chain.get(name, "").rpartition("@")[2].partition("?")[0]
    said = f"{name} is {value!r}, which is not a URL" if name else "the endpoint is not a URL"
    shown = f"http://{value}" if re.fullmatch(r"[\w.-]+(:[0-9]+)?", value) else "http://HOST:PORT"
    return UnsupportedError(
        f"{said} (the endpoint of the AWS chain). Nothing was read or written.",
        f"write {name or 'AWS_ENDPOINT_URL_S3'}={shown}, or https:// where the server speaks TLS",
    )


def _listen(client: Any, pace: Pace, options: S3Options) -> None:
    """Hear every answer, and say in every request who pays."""
    is_aws = _is_aws(client)

    def hear(parsed_response: Mapping[str, Any] | None = None, **_: object) -> None:
        if parsed_response is not None:
            status = parsed_response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0)
            pace.hear(status=status, code=str(parsed_response.get("Error", {}).get("Code", "")))
            if not is_aws:
                check_redirect(client.meta.endpoint_url, parsed_response)

    def offer_payment(params: dict[str, Any], model: Any, **_: object) -> None:
        if "RequestPayer" in getattr(model.input_shape, "members", ()):
            params["RequestPayer"] = "requester"

    # Before botocore's own retries, which hide every "slow down" but the last.
    client.meta.events.register("response-received.s3", hear)
    if options.requester_pays:
        client.meta.events.register("before-parameter-build.s3", offer_payment)


def keep_secrets_out_of_logs() -> None:
    """Drop botocore's records below INFO: at DEBUG it logs headers and signatures."""
    for name in ("botocore", "boto3", "urllib3"):
        logging.getLogger(name).setLevel(logging.INFO)


def _is_aws(client: Any) -> bool:
    host = urlsplit(client.meta.endpoint_url).hostname or ""
    return host.endswith((".amazonaws.com", ".amazonaws.com.cn"))


def _client(session: Any, options: S3Options, *, is_aws: bool) -> Any:
    style = options.addressing
    if style == "auto" and not is_aws:
        style = "path"
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
    region = session.region_name or (None if is_aws else "us-east-1")
    return session.client("s3", config=config, region_name=region)
