"""What S3 servers answer when something is wrong, in our words.

Works on the shape of botocore's exceptions and does not import it.
"""

import contextlib
from collections.abc import Callable, Iterator
from urllib.parse import urlsplit

from cluster.errors import (
    AccessError,
    AwayError,
    ClusterError,
    ConflictError,
    DigestError,
    FullError,
    MissingPlaceError,
    NotFoundError,
    PreconditionError,
    RegionError,
    ThrottledError,
    UnreachableError,
    UnsupportedError,
    UploadGoneError,
)


def error_code(error: Exception) -> str:
    """The server's error code, or the exception's class name where no answer came."""
    response = getattr(error, "response", None)
    if isinstance(response, dict) and "Error" in response:
        return str(response["Error"].get("Code", ""))
    return type(error).__name__


@contextlib.contextmanager
def translated(uri: str, key: str, *, endpoint: str = "") -> Iterator[None]:
    """Turn errors of botocore and urllib3 into ours; anything else passes through.

    Args:
        uri: URI of the store.
        key: key of the object; "" where the request is about the store.
        endpoint: URL that requests go to; messages name it without what may be secret in it.
    """
    try:
        yield
    except ClusterError:
        raise
    except Exception as error:
        # Where the text of an answer breaks off, botocore lets urllib3's errors through.
        if not type(error).__module__.startswith(("botocore", "urllib3")):
            raise
        where = f"{uri}/{key}" if key else uri
        raise _translate(
            error, f"{where} at {origin_of(endpoint)}" if endpoint else where
        ) from None


def origin_of(endpoint: str) -> str:
    """Scheme, host and port of a URL, without user, password, path and query."""
    parts = urlsplit(endpoint)
    return f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}"


def _translate(error: Exception, where: str) -> ClusterError:
    code = error_code(error)
    for codes, make in KINDS:
        if code in codes:
            return make(where, code)
    return UnreachableError(f"{where}: {code}", LOOK_AT_THE_NETWORK)


LOOK_AT_THE_NETWORK = "check the network and the endpoint, then run the same command again"
AWAY = frozenset({
    "EndpointConnectionError", "ConnectTimeoutError", "ConnectionClosedError", "ReadTimeoutError",
    "InternalError", "InternalServerError", "500", "502", "504",
})  # fmt: skip
KINDS: tuple[tuple[frozenset[str], Callable[[str, str], ClusterError]], ...] = (
    (
        AWAY,
        lambda where, code: AwayError(f"{where}: {code}", LOOK_AT_THE_NETWORK),
    ),
    (
        frozenset({"ConditionalRequestConflict", "OperationAborted", "409"}),
        lambda where, code: ConflictError(
            f"{where}: the store says that another write is under way ({code})",
            "run the same command again",
        ),
    ),
    (
        frozenset({"PreconditionFailed", "412"}),
        lambda where, code: PreconditionError(f"{where} is not the object that was meant ({code})"),
    ),
    (
        frozenset({"NoSuchUpload"}),
        lambda where, _: UploadGoneError(f"the upload of {where} is gone"),
    ),
    (
        frozenset({"InvalidPart", "InvalidPartOrder"}),
        lambda where, _: UploadGoneError(
            f"the upload of {where} does not hold the parts that were written",
            "run the same command again: it writes them anew",
        ),
    ),
    (
        frozenset({"NoSuchBucket"}),
        lambda where, _: MissingPlaceError(
            f"{where}: the bucket does not exist", "check its name, and the endpoint and region"
        ),
    ),
    (
        frozenset({"NoSuchKey", "404", "NotFound", "NoSuchVersion"}),
        lambda where, _: NotFoundError(f"{where} does not exist"),
    ),
    (
        frozenset({
            "NoCredentialsError", "PartialCredentialsError", "CredentialRetrievalError",
            "ProfileNotFound", "ConfigParseError", "InvalidConfigError", "TokenRetrievalError",
            "SSOTokenLoadError",
        }),
        lambda where, code: AccessError(
            f"{where}: the AWS chain gives no usable credentials ({code}); nothing was sent",
            "set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or AWS_PROFILE, or run with a role",
        ),
    ),
    (
        frozenset({"403", "Forbidden"}),
        lambda where, _: AccessError(
            f"{where}: the store refused access (403, without a reason)",
            "check the key, the secret (a wrong one looks like this) and the policy of the bucket, "
            "then run the same command again",
        ),
    ),
    (
        frozenset({
            "AccessDenied", "InvalidAccessKeyId", "SignatureDoesNotMatch",
            "ExpiredToken", "ExpiredTokenException", "InvalidToken", "TokenRefreshRequired",
            "RequestTimeTooSkewed", "AllAccessDisabled", "AccountProblem", "401", "Unauthorized",
        }),
        lambda where, code: AccessError(
            f"{where}: the store refused access ({code})",
            "check the credentials of the AWS chain (environment, profile, role) and the bucket's "
            "policy, then run the same command again",
        ),
    ),
    (
        frozenset({
            "PermanentRedirect", "301", "InvalidRegionError", "NoRegionError",
            "AuthorizationHeaderMalformed", "IllegalLocationConstraint",
        }),
        lambda where, code: RegionError(
            f"{where}: the bucket is in another region ({code})", "set AWS_REGION to its region"
        ),
    ),
    (
        frozenset({"QuotaExceeded", "InsufficientStorage", "507", "XMinioStorageFull"}),
        lambda where, code: FullError(
            f"{where}: the store is full ({code})", "free some space and run again"
        ),
    ),
    (
        frozenset({
            "SlowDown", "503", "ServiceUnavailable", "Throttling", "TooManyRequests", "429",
        }),
        lambda where, code: ThrottledError(
            f"{where}: the store asked to slow down until the retries were used up ({code})",
            "run the same command again later, or with fewer workers",
        ),
    ),
    (
        frozenset({
            "BadDigest", "InvalidDigest", "XAmzContentSHA256Mismatch",
            "XAmzContentChecksumMismatch",
        }),
        lambda where, code: DigestError(
            f"{where}: bytes arrived other than they were sent ({code})"
        ),
    ),
    (
        frozenset({
            "NotImplemented", "501", "MethodNotAllowed", "405", "InvalidRequest", "InvalidArgument",
            "InvalidBucketName", "ParamValidationError", "UnsupportedOperation",
        }),
        lambda where, code: UnsupportedError(
            f"{where}: the store does not take such a request ({code}); nothing was done",
            "`metafuse doctor` says what this store can do",
        ),
    ),
)  # fmt: skip
