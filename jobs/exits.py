"""Exit statuses: of errors by their code, and of the ends of a run. Alerts key on these."""

from collections.abc import Mapping

EXIT_STATUSES: Mapping[str, int] = {
    "E-USAGE": 2,
    "E-RECIPE": 10, "E-DATA": 10, "E-MEMORY": 10, "E-WEIGHTS": 10, "E-METHOD": 10,
    "E-UNSUPPORTED": 10, "E-MODEL": 10,
    "E-HEADER": 11, "E-PICKLE": 11, "E-UNSAFE-NAME": 11, "E-POINTER": 11, "E-MANIFEST": 11,
    "E-SHAPE": 12, "E-DTYPE": 12, "E-TENSORS": 12, "E-VOCABULARY": 12, "E-CONFIG": 12,
    "E-KINDS": 12, "E-ADAPTER": 12, "E-QUANTISED": 12, "E-MISMATCH": 12, "E-INTEGER": 12,
    "E-NO-CANDIDATES": 13, "E-TOO-FEW": 13, "E-INCOMPLETE": 13, "E-TRUNCATED": 13,
    "E-NONFINITE": 13,
    "E-SOURCE-CHANGED": 20, "E-PRECONDITION": 20,
    "E-NOT-FOUND": 21, "E-NO-PLACE": 21, "E-ACCESS": 21, "E-REGION": 21, "E-OUTPUT": 21,
    "E-UNREACHABLE": 21, "E-DIGEST": 21,
    "E-FULL": 22, "E-THROTTLED": 23, "E-LOCKED": 30, "E-CLUSTER": 40, "E-UPLOAD-GONE": 40,
    "E-INTERRUPTED": 130,
}  # fmt: skip
DONE, NOTHING_NEW, HELD, REFUSED = 0, 3, 4, 5
# A run that ended as runs end: it is neither tried again nor an alarm.
ENDED = (DONE, NOTHING_NEW, HELD, REFUSED)
USAGE = EXIT_STATUSES["E-USAGE"]
TOO_FEW = EXIT_STATUSES["E-TOO-FEW"]
NO_PLACE = EXIT_STATUSES["E-NO-PLACE"]
LOCKED = EXIT_STATUSES["E-LOCKED"]
CLUSTER = EXIT_STATUSES["E-CLUSTER"]
BUG = 70
INTERRUPTED = EXIT_STATUSES["E-INTERRUPTED"]
# What a status means, for `metafuse --help`.
MEANINGS: Mapping[int, str] = {
    DONE: "done, or promoted",
    USAGE: "a command or option that makes no sense",
    NOTHING_NEW: "nothing new",
    HELD: "held: the gate, or a hold, keeps what is promoted",
    REFUSED: "not decided: the evidence does not tell",
    10: "the recipe, the data or a model does not fit what is asked",
    11: "refused for safety",
    12: "incompatible models",
    TOO_FEW: "too few healthy candidates",
    20: "a source changed while it was used",
    NO_PLACE: "storage: missing, not allowed, or not reached",
    22: "storage is full",
    23: "storage throttled for too long",
    LOCKED: "the same run is alive elsewhere",
    CLUSTER: "the cluster failed",
    BUG: "a bug of metafuse",
    INTERRUPTED: "interrupted; for verbs that keep what is done, the same command continues",
}
