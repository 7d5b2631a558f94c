"""Text from records that others may have written: made so that no terminal, Markdown, HTML or picture obeys it.

Names of people, photos, runs and data come from folders, from MLflow and from files beside it. Characters that mean
something to one of these readers are replaced by others that look like them, rather than escaped: the same text goes to
the terminal, into tables that are read as they stand, and into pictures, and each has an escape of its own.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable, Mapping
from typing import Any

MOST = 2000
"""Characters of a text that are shown; longer ones are cut."""

_LIKE = str.maketrans(
    {
        "<": "\N{SINGLE LEFT-POINTING ANGLE QUOTATION MARK}",
        ">": "\N{SINGLE RIGHT-POINTING ANGLE QUOTATION MARK}",
        "|": "\N{BROKEN BAR}",
        "`": "\N{MODIFIER LETTER GRAVE ACCENT}",
        "*": "\N{ASTERISK OPERATOR}",
        "~": "\N{TILDE OPERATOR}",
        "\\": "\N{SET MINUS}",
        "$": "\N{FULLWIDTH DOLLAR SIGN}",  # mathematics, to matplotlib and to some readers of Markdown
    }
)
_SECRETS = re.compile(r"(?i)\b([\w-]*(?:password|passwd|pwd|token|secret)[\w-]*)=[^&\s'\"]*")
_LINKS = re.compile(r"\](?=[(\[:])")
_EMPHASIS = re.compile(r"(?<![A-Za-z0-9])_|_(?![A-Za-z0-9])")
_ADDRESS = re.compile(r"((?<=http)|(?<=https)|(?<=ftp)):(?=//)|(?<=\bwww)\.|@(?=\w)", re.IGNORECASE)
_BLOCK = {"#": "\N{MUSIC SHARP SIGN}", "-": "\N{HYPHEN}", "+": "\N{SUPERSCRIPT PLUS SIGN}"}


def printable(text: object) -> str:
    """The text on one line, without what moves a terminal's cursor, turns the direction of writing, or is no letter."""
    words = " ".join(str(text).split())
    return "".join("\N{REPLACEMENT CHARACTER}" if unicodedata.category(c)[0] == "C" else c for c in words)


def plain(text: object, *, most: int = MOST) -> str:
    """The text on one line, at most so many characters, that is no markup for Markdown, HTML or matplotlib."""
    line = printable(text).translate(_LIKE)
    line = _EMPHASIS.sub("\N{MODIFIER LETTER LOW MACRON}", _LINKS.sub("] ", line))
    line = _ADDRESS.sub(lambda found: " " + found[0] + " ", line)
    line = _BLOCK.get(line[:1], line[:1]) + line[1:]  # a heading or a list, at the start of a line
    return line if len(line) <= most else f"{line[: most - 4]} ..."


def plain_record(record: Any) -> Any:
    """A JSON record with every text and every key in it plain."""
    if isinstance(record, str):
        return plain(record)
    if isinstance(record, Mapping):
        return {plain(key): plain_record(value) for key, value in record.items()}
    if isinstance(record, list | tuple):
        return [plain_record(value) for value in record]
    return record


def without_secrets(text: str) -> str:
    """The text without what may be a user, a password or a token in a URI."""
    return _SECRETS.sub(r"\1=***", re.sub(r"://[^\s'\"]*@", "://***@", text))


def brief(error: BaseException) -> str:
    """The end of an error's message on one line, without secrets nor tags of HTML: what urllib3 wraps comes last."""
    text = printable(without_secrets(re.sub(r"<[^<>]*>", " ", str(error))))
    return text if len(text) < 160 else f"... {text[-150:]}"


def slug(text: object, *, most: int = 60) -> str:
    """The text as one component of a path, the same on every system: letters, digits, "-", "_" and "." inside."""
    name = re.sub(r"[^A-Za-z0-9_.-]+", "-", str(text))[:most].strip("-.")
    return re.sub(r"\.{2,}", ".", name) or "unnamed"


def apart(names: Iterable[str]) -> list[str]:
    """The names, those that occur twice with a number behind: none is like another, upper and lower case alike."""
    names = list(names)
    found: list[str] = []
    taken = {name.casefold() for name in names}
    for i, name in enumerate(names):
        own = name
        if [other.casefold() for other in names].count(name.casefold()) > 1:
            own = f"{name}-{i + 1}"
            while own.casefold() in taken:
                own += "x"
            taken.add(own.casefold())
        found.append(own)
    return found
