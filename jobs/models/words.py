"""How the LSTM classifier cuts texts into words; without torch, so that `plan` can count them."""

import re

TOKEN = re.compile(r"[^\W_]+(?:'[^\W_]+)*|[^\w\s]")
MAX_LENGTH = 64  # words read where the recipe does not say


def tokenize(text: str) -> list[str]:
    """Words and punctuation marks, lower-cased."""
    return TOKEN.findall(text.lower())
