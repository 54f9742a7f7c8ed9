"""What can be wrong with a request or a run.

JobError
├── UsageError           E-USAGE           an argument or option that makes no sense
├── RecipeError          E-RECIPE          the recipe, all mistakes at once
├── DataError            E-DATA            evaluation data: file, column, label
├── NoCandidatesError    E-NO-CANDIDATES   nothing matched, or nothing usable did
├── TooFewError          E-TOO-FEW         fewer healthy candidates than min_candidates
├── IncompleteError      E-INCOMPLETE      a checkpoint with a missing or unfinished part
├── PickleError          E-PICKLE          a checkpoint that could run code when opened
├── UnsafeNameError      E-UNSAFE-NAME     a shard name that leaves its checkpoint
├── ModelError           E-MODEL           a checkpoint that becomes no model we can run
├── MemoryNeedError      E-MEMORY          candidates larger than resources.evaluate.memory
├── SourceChangedError   E-SOURCE-CHANGED  a pinned object is not what it was
├── LockedError          E-LOCKED          the same run is alive elsewhere
├── PointerError         E-POINTER         a pointer that is not ours to move
├── OutputError          E-OUTPUT          output that cannot be written
└── InterruptedRunError  E-INTERRUPTED     stopped by a signal; can be resumed
"""

from typing import ClassVar


class JobError(Exception):
    """Something the user can act on. `str()` is the message; `hint` names the next command.

    Only strings travel in `args`, so an error raised on a worker arrives unchanged.
    """

    code: ClassVar[str] = "E-JOB"

    def __init__(self, message: str, hint: str = "") -> None:
        super().__init__(message, hint)
        self.message = message
        self.hint = hint

    def __str__(self) -> str:
        return self.message


class UsageError(JobError):
    """An argument or option of the command line that makes no sense."""

    code = "E-USAGE"


class RecipeError(JobError):
    """The recipe or merge document has mistakes; the message lists all, one a line."""

    code = "E-RECIPE"


class DataError(JobError):
    """Evaluation data that cannot be read, lacks a column, or has a label the model does not."""

    code = "E-DATA"


class NoCandidatesError(JobError):
    """No candidate matched, or none that matched can be used."""

    code = "E-NO-CANDIDATES"


class TooFewError(JobError):
    """Fewer healthy candidates than `min_candidates`."""

    code = "E-TOO-FEW"


class IncompleteError(JobError):
    """A checkpoint that lacks a shard or is still being written.

    `wait_seconds` after which it has settled, where that is all that it lacks; else 0.
    """

    code = "E-INCOMPLETE"

    def __init__(self, message: str, hint: str = "", wait_seconds: float = 0.0) -> None:
        super().__init__(message, hint)
        self.args = (message, hint, wait_seconds)
        self.wait_seconds = wait_seconds


class PickleError(JobError):
    """A checkpoint in a format that runs code when it is opened."""

    code = "E-PICKLE"


class UnsafeNameError(JobError):
    """A shard name in an index that would leave the checkpoint's folder."""

    code = "E-UNSAFE-NAME"


class ModelError(JobError):
    """A checkpoint that cannot be turned into a model that predicts."""

    code = "E-MODEL"


class MemoryNeedError(JobError):
    """Candidates need more memory than `resources.evaluate.memory` allows."""

    code = "E-MEMORY"


class SourceChangedError(JobError):
    """An object is not the one that was pinned when the run began."""

    code = "E-SOURCE-CHANGED"


class LockedError(JobError):
    """The same run is alive elsewhere."""

    code = "E-LOCKED"


class PointerError(JobError):
    """The pointer belongs to another recipe, or cannot be moved safely."""

    code = "E-POINTER"


class OutputError(JobError):
    """The output cannot be written."""

    code = "E-OUTPUT"


class InterruptedRunError(JobError):
    """Stopped by a signal. The same command continues."""

    code = "E-INTERRUPTED"
