"""Code -> exit status: the one table."""

from collections.abc import Mapping

# The one place where an error code becomes an exit status. Alerts key on these.
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
BUG = 70
INTERRUPTED = 130
