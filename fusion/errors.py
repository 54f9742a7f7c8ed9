"""What can be wrong with checkpoints, weights and plans.

FusionError
├── HeaderError        E-HEADER      a header breaks the format or our limits
├── TruncatedError     E-TRUNCATED   a file ends before its header says so
├── MismatchError      E-SHAPE ...   checkpoints that cannot be averaged with each other
├── NonFiniteError     E-NONFINITE   a NaN or an infinity in a tensor
├── IntegerError       E-INTEGER     integer tensors that differ
├── WeightError        E-WEIGHTS     weights that give no average
├── MethodError        E-METHOD      a merge method or parameter that does not exist
└── ManifestError      E-MANIFEST    a manifest or pointer that is not what it claims to be
"""

from typing import ClassVar


class FusionError(Exception):
    """Something the user can act on. `str()` is the message; `hint` names the next command.

    Only strings travel in `args`, so an error raised on a worker arrives unchanged.
    """

    code: ClassVar[str] = "E-FUSION"

    def __init__(self, message: str, hint: str = "") -> None:
        super().__init__(message, hint)
        self.message = message
        self.hint = hint

    def __str__(self) -> str:
        return self.message


class HeaderError(FusionError):
    """A safetensors header that breaks the format, or our stricter reading of it."""

    code = "E-HEADER"


class TruncatedError(FusionError):
    """A file that ends before its header says it does: cut off, or still being written."""

    code = "E-TRUNCATED"


class MismatchError(FusionError):
    """Checkpoints that differ where they must agree. All differences are in the message."""

    code = "E-MISMATCH"

    def __init__(self, message: str, hint: str = "", code: str = "E-MISMATCH") -> None:
        super().__init__(message, hint)
        self.args = (message, hint, code)
        self.code = code  # type: ignore[misc]  # the kind of the differences: E-SHAPE, E-DTYPE ...


class NonFiniteError(FusionError):
    """A NaN or an infinity in a tensor. `checkpoint` and `tensor` name the place."""

    code = "E-NONFINITE"

    def __init__(
        self, message: str, hint: str = "", checkpoint: str = "", tensor: str = ""
    ) -> None:
        super().__init__(message, hint)
        self.args = (message, hint, checkpoint, tensor)
        self.checkpoint = checkpoint
        self.tensor = tensor


class IntegerError(FusionError):
    """Integer or boolean tensors that differ: they cannot be averaged."""

    code = "E-INTEGER"


class WeightError(FusionError):
    """Weights that are not finite, do not match, or sum to zero."""

    code = "E-WEIGHTS"


class MethodError(FusionError):
    """A merge method, or a parameter of one, that does not exist or is out of range."""

    code = "E-METHOD"


class ManifestError(FusionError):
    """A manifest, pointer or record that cannot be read or does not match its digest."""

    code = "E-MANIFEST"


class NoManifestError(ManifestError):
    """There is no manifest where one was looked for."""
