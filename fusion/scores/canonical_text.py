"""What of a text counts when texts are compared."""

import unicodedata


def canonical_text(text: str) -> str:
    """NFKC, case folded, runs of white space as one blank: what is hashed."""
    return " ".join(unicodedata.normalize("NFKC", text).casefold().split())
