"""What S3 servers answer when something is wrong, in our words.

Works on the shape of botocore's exceptions and does not import it.
"""

import contextlib
from collections.abc import Callable, Iterator

from cluster.errors import (
    AccessError,
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
def translated(uri: str, key: str) -> Iterator[None]:
    """Turn botocore's errors into ours; anything else passes through."""
    try:
        yield
    except ClusterError:
        raise
    except Exception as error:
        if not type(error).__module__.startswith("botocore"):
            raise
        raise _translate(error, f"{uri}/{key}" if key else uri) from None


def _translate(error: Exception, where: str) -> ClusterError:
    code = error_code(error)
    for codes, make in KINDS:
        if code in codes:
            return make(where, code)
    return UnreachableError(
        f"{where}: {code}", "check the network and the endpoint, then run the same command again"
    )


KINDS: tuple[tuple[frozenset[str], Callable[[str, str], ClusterError]], ...] = (
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
            "AccessDenied", "403", "Forbidden", "InvalidAccessKeyId", "SignatureDoesNotMatch",
            "ExpiredToken", "ExpiredTokenException", "InvalidToken", "TokenRefreshRequired",
            "RequestTimeTooSkewed", "AllAccessDisabled", "AccountProblem", "401", "Unauthorized",
            "NoCredentialsError", "PartialCredentialsError", "CredentialRetrievalError",
            "ProfileNotFound", "ConfigParseError", "InvalidConfigError",
            "TokenRetrievalError", "SSOTokenLoadError",
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
