"""What S3 servers answer when something is wrong, in our words.

Works on the shape of botocore's exceptions and does not import it.
"""

import contextlib
from collections.abc import Iterator

from cluster.errors import (
    AccessError,
    ClusterError,
    DigestError,
    FullError,
    MissingPlaceError,
    NotFoundError,
    PreconditionError,
    RegionError,
    ThrottledError,
    UnreachableError,
    UploadGoneError,
)

ACCESS = {
    "AccessDenied", "403", "Forbidden", "InvalidAccessKeyId", "SignatureDoesNotMatch",
    "ExpiredToken", "ExpiredTokenException", "InvalidToken", "TokenRefreshRequired",
    "RequestTimeTooSkewed", "AllAccessDisabled", "AccountProblem", "401", "Unauthorized",
}  # fmt: skip
THROTTLED = {"SlowDown", "503", "ServiceUnavailable", "Throttling", "TooManyRequests", "429"}
REGION = {"PermanentRedirect", "301", "AuthorizationHeaderMalformed", "IllegalLocationConstraint"}
FULL = {"QuotaExceeded", "InsufficientStorage", "507", "XMinioStorageFull"}
PRECONDITION = {"PreconditionFailed", "412", "ConditionalRequestConflict", "409"}
DIGEST = {"BadDigest", "XAmzContentSHA256Mismatch", "XAmzContentChecksumMismatch"}
MISSING = {"NoSuchKey", "404", "NotFound", "NoSuchVersion"}
NO_CREDENTIALS = {
    "NoCredentialsError", "PartialCredentialsError", "CredentialRetrievalError",
    "ProfileNotFound", "TokenRetrievalError", "SSOTokenLoadError",
}  # fmt: skip


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
    if code in PRECONDITION:
        return PreconditionError(f"{where} is not the object that was meant ({code})")
    if code == "NoSuchUpload":
        return UploadGoneError(f"the upload of {where} is gone")
    if code == "NoSuchBucket":
        return MissingPlaceError(
            f"{where}: the bucket does not exist", "check its name, and the endpoint and region"
        )
    if code in MISSING:
        return NotFoundError(f"{where} does not exist")
    if code in ACCESS or code in NO_CREDENTIALS:
        return AccessError(
            f"{where}: the store refused access ({code})",
            "check the credentials of the AWS chain (environment, profile, role) and the bucket's "
            "policy, then run the same command again",
        )
    if code in REGION:
        return RegionError(
            f"{where}: the bucket is in another region ({code})", "set AWS_REGION to its region"
        )
    if code in FULL:
        return FullError(f"{where}: the store is full ({code})", "free some space and run again")
    if code in THROTTLED:
        return ThrottledError(
            f"{where}: the store asked to slow down until the retries were used up ({code})",
            "run the same command again later, or with fewer workers",
        )
    if code in DIGEST:
        return DigestError(f"{where}: bytes arrived other than they were sent ({code})")
    return UnreachableError(
        f"{where}: {code}", "check the network and the endpoint, then run the same command again"
    )
