"""What S3 servers answer when something is wrong, in our words.

Works on the shape of botocore's exceptions and does not import it.
"""

import contextlib
import re
from collections.abc import Callable, Iterator, Mapping
from typing import Any
from urllib.parse import urlsplit

from cluster.errors import (
    AccessError,
    ArchivedError,
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
        where = f"{uri}/{key}" if key else uri
        where = f"{where} at {origin_of(endpoint)}" if endpoint else where
        if isinstance(error, RecursionError):
            # botocore follows a redirect by asking for the bucket's region, which is redirected.
            raise RegionError(
                f"{where}: the store redirects in circles", LOOK_AT_REDIRECT
            ) from None
        # Where the text of an answer breaks off, botocore lets urllib3's errors through.
        if not type(error).__module__.startswith(("botocore", "urllib3")):
            raise
        raise _translate(error, where) from None


def check_redirect(endpoint: str, answer: Mapping[str, Any]) -> None:
    """Refuse an answer that sends us elsewhere and is none of S3's own redirects to a region.

    Args:
        endpoint: URL that the request went to.
        answer: what botocore parsed.

    Raises:
        RegionError: names where the server points to.
    """
    known = answer.get("ResponseMetadata", {})
    headers = known.get("HTTPHeaders", {})
    if known.get("HTTPStatusCode") not in REDIRECTS or "x-amz-bucket-region" in headers:
        return
    place = headers.get("location", "")
    to = f" to {origin_of(place)}" if "://" in place else ""
    raise RegionError(
        f"{origin_of(endpoint)} answers {known['HTTPStatusCode']}: it redirects{to}; redirects are "
        "not followed, as requests are signed for one place. Nothing was read or written.",
        f"set AWS_ENDPOINT_URL_S3={origin_of(place)}" if to else LOOK_AT_REDIRECT,
    )


def origin_of(endpoint: str) -> str:
    """Scheme, host and port of a URL, without user, password, path and query."""
    parts = urlsplit(endpoint)
    return f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}"


def _translate(error: Exception, where: str) -> ClusterError:
    code, message = error_code(error), _message(error)
    for sign, make_special in SPECIAL:
        if sign.search(f"{code}: {message}"):
            return make_special(where, code)
    if code == "AccessDenied" and (right := RIGHTS.get(getattr(error, "operation_name", ""))):
        return AccessError(
            f"{where}: the store refused access ({code}): these credentials lack {right}",
            f"allow {right} there in the policy of the user, role or bucket, or use other "
            "credentials of the AWS chain; without s3:ListBucket what is not there looks like "
            "this too; then run the same command again",
        )
    region = _expected_region(error)
    if region:
        return RegionError(
            f"{where}: the request was for another region than the bucket's, {region} ({code}"
            + (f": {message})" if message else ")"),
            f"set AWS_REGION={region}",
        )
    reason = _reason(error)
    for codes, make in KINDS:
        if code in codes:
            return make(where, f"{code}, {reason}" if reason else code)
    if code == type(error).__name__:  # no answer came
        return UnreachableError(f"{where}: {code}", LOOK_AT_THE_NETWORK)
    text = f"{where}: the store answered {code}" + (f": {message}" if message else "")
    return UnreachableError(text, LOOK_AT_THE_CODE)


# By what was asked: the right that a policy has to give.
RIGHTS: Mapping[str, str] = {
    "GetObject": "s3:GetObject", "HeadObject": "s3:GetObject", "ListObjectsV2": "s3:ListBucket",
    "PutObject": "s3:PutObject", "CreateMultipartUpload": "s3:PutObject",
    "UploadPart": "s3:PutObject", "CompleteMultipartUpload": "s3:PutObject",
    "AbortMultipartUpload": "s3:AbortMultipartUpload", "DeleteObject": "s3:DeleteObject",
    "DeleteObjects": "s3:DeleteObject", "ListParts": "s3:ListMultipartUploadParts",
    "ListMultipartUploads": "s3:ListBucketMultipartUploads",
}  # fmt: skip


def _reason(error: Exception) -> str:
    """Why no connection came about, where botocore's error holds it."""
    text = str(getattr(error, "kwargs", {}).get("error", ""))
    return next((words for sign, words in REASONS.items() if sign in text), "")


REASONS: Mapping[str, str] = {
    "Connection refused": "connection refused: nothing listens there",
    "Failed to resolve": "the name of the host is not known",
    "Name or service not known": "the name of the host is not known",
    "Temporary failure in name resolution": "the name of the host cannot be looked up now",
    "Network is unreachable": "the network is unreachable",
    "No route to host": "no way leads to the host",
}


def _expected_region(error: Exception) -> str:
    """The region that the store names; "" where it names none."""
    response = getattr(error, "response", None)
    found = response.get("Error", {}).get("Region", "") if isinstance(response, dict) else ""
    return found if re.fullmatch("[a-z0-9-]{1,40}", str(found or "")) else ""


def _message(error: Exception) -> str:
    """The first words of the server's own, without what could move a terminal."""
    response = getattr(error, "response", None)
    found = response.get("Error", {}).get("Message", "") if isinstance(response, dict) else ""
    return re.sub(r"[^\x20-\x7e]+", " ", str(found or ""))[:MESSAGE_LETTERS]


LOOK_AT_THE_CODE = (
    "look that code up in the store's documentation; `metafuse doctor` tries what a run needs"
)
MESSAGE_LETTERS = 200
REDIRECTS = (301, 302, 303, 307, 308)
LOOK_AT_REDIRECT = (
    "set AWS_ENDPOINT_URL_S3 to the address that serves (https where http is only redirected), and "
    "AWS_REGION to the bucket's region"
)
# Read from code and message together: the code alone does not tell.
SPECIAL: tuple[tuple[re.Pattern[str], Callable[[str, str], ClusterError]], ...] = (
    (
        re.compile(r"^KMS\.|AccessDenied.*\bkms:", re.IGNORECASE),
        lambda where, code: AccessError(
            f"{where}: the store cannot use the KMS key of the object or bucket ({code})",
            "the role needs kms:Decrypt to read and kms:GenerateDataKey to write, on a key that is "
            "enabled; then run the same command again",
        ),
    ),
    (
        re.compile(r"stored using a form of Server Side Encryption", re.IGNORECASE),
        lambda where, code: UnsupportedError(
            f"{where} is encrypted with the customer's key (SSE-C, {code}), which is not offered",
            "copy it with SSE-S3 or SSE-KMS, and name the copy",
        ),
    ),
    (
        re.compile(r"^InvalidObjectState"),
        lambda where, code: ArchivedError(
            f"{where} is archived ({code})",
            "restore it (aws s3api restore-object), or leave it out; then run the same command "
            "again",
        ),
    ),
    (
        re.compile(r"^(InvalidToken|InvalidClientTokenId|IllegalLocationConstraintException)\b"),
        lambda where, code: AccessError(
            f"{where}: the store refused access ({code})",
            "renew the credentials; in a region that is not on by default the account must have "
            "opted in, and tokens come from its own STS: AWS_STS_REGIONAL_ENDPOINTS=regional and "
            "AWS_REGION set to it",
        ),
    ),
)
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
        frozenset({"SignatureDoesNotMatch"}),
        lambda where, code: AccessError(
            f"{where}: the store refused access ({code}): the secret key is not that of the access "
            "key",
            "correct AWS_SECRET_ACCESS_KEY (or the profile's secret) for AWS_ACCESS_KEY_ID; where "
            "it is right, something between here and the store changes requests",
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
            "AccessDenied", "InvalidAccessKeyId",
            "ExpiredToken", "ExpiredTokenException", "TokenRefreshRequired",
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
