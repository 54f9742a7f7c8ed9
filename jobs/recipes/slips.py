"""Slips of the hand that make a document no YAML, or other YAML than was meant, in plain words."""

import re
import unicodedata
from dataclasses import dataclass
from typing import Any

MARKS = re.compile(r"(?:<{7}|={7}|>{7})(?: |$)")
# Spaces that YAML takes for letters; they come from web pages and chats.
BLANKS = re.compile(r"[ \t]*([\u00a0\u1680\u2000-\u200b\u202f\u205f\u3000\ufeff])")
# What stands unquoted at the beginning of a value and has a meaning of its own.
SIGNS = {"*": "an alias", "&": "an anchor", "!": "a tag", "%": "a directive", "@": "nothing yet",
         "`": "nothing yet"}  # fmt: skip
VALUE = re.compile(r"(?:^|[\[,{]|- |: )\s*([*&!%@`])\S*")


@dataclass(frozen=True, slots=True)
class Slip:
    """A slip with its line, what is wrong, and the way out."""

    line: int
    text: str
    hint: str


def find_slip(text: str) -> Slip | None:
    """The first line that YAML reads, if at all, otherwise than it looks; None for none."""
    for number, line in enumerate(text.splitlines(), 1):
        if MARKS.match(line):
            return Slip(
                number,
                f"{line[:7]!r} is the mark of an unfinished git merge",
                "keep one of the two versions, and take the three marks out",
            )
        blank = BLANKS.match(line)
        if blank and line[blank.end() :].strip() and not (number == 1 and blank[1] == "\ufeff"):
            return Slip(
                number,
                f"the line begins with {_letter(blank[1])}, which is no space to YAML",
                "write ordinary spaces in its place",
            )
    return None


def explain_yaml(error: Exception, text: str) -> Slip:
    """What a parser's error means, where that can be told.

    Args:
        error: PyYAML's error.
        text: the document.
    """
    mark: Any = getattr(error, "problem_mark", None)
    number, column = (mark.line + 1, mark.column + 1) if mark else (1, 1)
    problem = getattr(error, "problem", None) or str(error).splitlines()[0]
    lines = text.splitlines()
    line = lines[number - 1] if number <= len(lines) else ""
    plain = f"not YAML: {problem}"
    if line[: column + 1].strip(" ").startswith("\t") or "'\\t'" in problem:
        return Slip(number, f"not YAML: a tab in column {column}; YAML is indented by spaces",
                    "write spaces in place of the tabs")  # fmt: skip
    if "another document" in problem:
        return Slip(number, "not YAML of one document: a second document begins here",
                    "one recipe a file: give the other a file of its own")  # fmt: skip
    if "mapping values are not allowed" in problem:
        return Slip(number, f"not YAML: the colon in column {column} begins a second value",
                    f'put a value that holds ": " in quotes: {_quoted(line)}')  # fmt: skip
    sign = VALUE.search(line)
    if sign:
        what = SIGNS[sign[1]]
        return Slip(number, f"{plain}: {sign[1]!r} at the beginning of a value means {what}",
                    f"put the value in quotes: \"{sign[0].lstrip('[,{-: ')}\"")  # fmt: skip
    return Slip(number, plain, "")


def _quoted(line: str) -> str:
    key, _, value = line.partition(": ")
    return f'{key.strip()}: "{value.strip()}"'


def _letter(letter: str) -> str:
    return f"U+{ord(letter):04X} ({unicodedata.name(letter, 'no name').lower()})"
