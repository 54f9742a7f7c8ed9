"""JSON that would grow in memory is refused before it is parsed: by its marks."""

from itertools import islice

from fusion.checkpoints.header import MARK
from jobs.errors import IncompleteError

# Strings, lists, objects and commas. A vocabulary of 512,000 tokens and 1,000,000 merges in pairs
# has 6 million; 60 MB of "[],[]," have 40 million and become 1.5 GB of lists.
MAX_MARKS = 8_000_000


def check_marks(content: bytes, where: str, *, most: int = MAX_MARKS) -> None:
    """Refuse JSON with more marks than any file of a model has.

    Raises:
        IncompleteError: there are more.
    """
    # Counted roughly first, which takes a hundredth of the time; marks in strings count as well.
    rough = sum(map(content.count, (b"[", b"{", b","))) + content.count(b'"') // 2
    if rough > most and sum(1 for _ in islice(MARK.finditer(content), most + 1)) > most:
        raise IncompleteError(
            f"{where} has more than {most:,} strings, lists, objects and commas, and was not read: "
            "no file of a model has as many",
            "copy it again, or take it away if the model does not need it",
        )
