"""What machines can do to us.

ClusterError
├── NotFoundError         E-NOT-FOUND     no such object
├── MissingPlaceError     E-NO-PLACE      no such bucket or folder
├── AccessError           E-ACCESS        rights or credentials
├── RegionError           E-REGION        the bucket lives elsewhere
├── PreconditionError     E-PRECONDITION  If-Match or If-None-Match did not hold
│   └── ConflictError     E-PRECONDITION  another write of the same key is under way
├── UploadGoneError       E-UPLOAD-GONE   an upload that was aborted, completed or never was
├── FullError             E-FULL          no space left
├── ThrottledError        E-THROTTLED     the store kept saying "slow down"
├── UnreachableError      E-UNREACHABLE   no answer, or an answer that stayed broken
│   ├── OpenFilesError    E-UNREACHABLE   this process has as many files open as it may
│   ├── AwayError         E-UNREACHABLE   the store is down, or the way to it
│   └── DigestError       E-DIGEST        bytes arrived other than they were sent
├── UnsupportedError      E-UNSUPPORTED   a kind of store or an operation that is not offered
└── RunnerError           E-CLUSTER       workers or Ray failed
"""

from typing import ClassVar


class ClusterError(Exception):
    """Something the user can act on. `str()` is the message; `hint` names the next command.

    Only strings travel in `args`, so an error raised on a worker arrives unchanged.
    """

    code: ClassVar[str] = "E-CLUSTER"

    def __init__(self, message: str, hint: str = "") -> None:
        super().__init__(message, hint)
        self.message = message
        self.hint = hint

    def __str__(self) -> str:
        return self.message


class NotFoundError(ClusterError, FileNotFoundError):
    """No object has this key."""

    code = "E-NOT-FOUND"


class MissingPlaceError(ClusterError, FileNotFoundError):
    """The bucket or the folder does not exist."""

    code = "E-NO-PLACE"


class AccessError(ClusterError, PermissionError):
    """Refused: credentials missing, wrong or expired, or rights that do not suffice."""

    code = "E-ACCESS"


class RegionError(ClusterError):
    """The bucket is in another region than the client was told."""

    code = "E-REGION"


class PreconditionError(ClusterError):
    """The object is not the one that was meant (If-Match), or exists already (If-None-Match)."""

    code = "E-PRECONDITION"


class ConflictError(PreconditionError):
    """Another write of the same key is under way; asking again may help."""


class UploadGoneError(ClusterError):
    """The upload was aborted, completed by another process, or never existed."""

    code = "E-UPLOAD-GONE"


class FullError(ClusterError):
    """No space left on the store."""

    code = "E-FULL"


class ThrottledError(ClusterError):
    """The store kept asking us to slow down until the retries were used up."""

    code = "E-THROTTLED"


class UnreachableError(ClusterError, ConnectionError):
    """No answer, or one that stayed broken after the retries."""

    code = "E-UNREACHABLE"


class AwayError(UnreachableError):
    """The store, or the way to it, is down: the same request may be answered in a while."""


class OpenFilesError(UnreachableError):
    """This process, or this machine, has as many files open as it may."""


class DigestError(UnreachableError):
    """Bytes arrived other than they were sent; sending them again may help."""

    code = "E-DIGEST"


class UnsupportedError(ClusterError):
    """This kind of store, or this operation on it, is not offered."""

    code = "E-UNSUPPORTED"


def first_line(error: Exception) -> str:
    """What a library says, without the paragraphs that follow."""
    return (str(error).splitlines() or [type(error).__name__])[0]


class RunnerError(ClusterError):
    """A worker, or the cluster that runs it, failed."""

    code = "E-CLUSTER"


class ClusterAwayError(RunnerError):
    """The cluster does not answer at the moment; asking again may help."""
