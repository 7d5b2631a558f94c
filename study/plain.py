"""Makes text from records that others may have written harmless for terminals, Markdown, HTML and pictures.

Names of people, photos, runs and datasets come from folders, from MLflow and from files. Characters with a special
meaning are replaced by others that look alike, and not escaped: the same text goes to the terminal, into Markdown and
into pictures, and each of these has another way to escape.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable, Mapping
from typing import Any

MOST = 2000
"""Longer texts are cut to as many characters."""

_LIKE = str.maketrans(
    {
        "<": "\N{SINGLE LEFT-POINTING ANGLE QUOTATION MARK}",
        ">": "\N{SINGLE RIGHT-POINTING ANGLE QUOTATION MARK}",
        "|": "\N{BROKEN BAR}",
        "`": "\N{MODIFIER LETTER GRAVE ACCENT}",
        "*": "\N{ASTERISK OPERATOR}",
        "~": "\N{TILDE OPERATOR}",
        "\\": "\N{SET MINUS}",
        "$": "\N{FULLWIDTH DOLLAR SIGN}",  # starts a formula in matplotlib and in some Markdown
    }
)
_SECRETS = re.compile(r"(?i)\b([\w-]*(?:password|passwd|pwd|token|secret)[\w-]*)=[^&\s'\"]*")
_LINKS = re.compile(r"\](?=[(\[:])")
_EMPHASIS = re.compile(r"(?<![A-Za-z0-9])_|_(?![A-Za-z0-9])")
_ADDRESS = re.compile(r"((?<=http)|(?<=https)|(?<=ftp)):(?=//)|(?<=\bwww)\.|@(?=\w)", re.IGNORECASE)
_BLOCK = {"#": "\N{MUSIC SHARP SIGN}", "-": "\N{HYPHEN}", "+": "\N{SUPERSCRIPT PLUS SIGN}"}


def printable(text: object) -> str:
    """The text on one line, without control characters, such as those that move a cursor or change the direction."""
    words = " ".join(str(text).split())
    return "".join("\N{REPLACEMENT CHARACTER}" if unicodedata.category(c)[0] == "C" else c for c in words)


def plain(text: object, *, most: int = MOST) -> str:
    """The text on one line, without markup of Markdown, HTML and matplotlib, at most `most` characters."""
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
    """The text without users, passwords and tokens of URIs."""
    return _SECRETS.sub(r"\1=***", re.sub(r"://[^\s'\"]*@", "://***@", text))


def brief(error: BaseException) -> str:
    """The end of an error's message on one line, without secrets and HTML tags. urllib3 puts the cause at the end."""
    text = printable(without_secrets(re.sub(r"<[^<>]*>", " ", str(error))))
    return text if len(text) < 160 else f"... {text[-150:]}"


def clock(seconds: float) -> str:
    """A duration as people read it: "40 s", "12 min", "3 h 20 min"."""
    minutes = round(seconds / 60)
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{minutes} min" if minutes < 90 else f"{minutes // 60} h {minutes % 60} min"


def slug(text: object, *, most: int = 60) -> str:
    """The text as one component of a path on any system: letters, digits, "-", "_", and "." except at its ends."""
    name = re.sub(r"[^A-Za-z0-9_.-]+", "-", str(text))[:most].strip("-.")
    return re.sub(r"\.{2,}", ".", name) or "unnamed"


def apart(names: Iterable[str]) -> list[str]:
    """The names, with a number added to those that occur twice; upper and lower case count as the same."""
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
