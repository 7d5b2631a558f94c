"""Errors for unknown names, with the nearest known one; and the folder name of a backbone."""

from __future__ import annotations

import difflib
from collections.abc import Iterable


def unknown(kind: str, name: str, known: Iterable[str]) -> ValueError:
    """A ValueError that suggests the nearest known name and lists all."""
    return ValueError(f"unknown {kind} {name[:80]!r}.{near(name, known)}")


def near(name: str, known: Iterable[str]) -> str:
    """The suggestion and the list of known names, for a message. Of equally near names the first is suggested."""
    names = list(known)
    return f"{suggestion(name, names)} There is: {', '.join(names)}"


def suggestion(name: str, known: Iterable[str]) -> str:
    """The question Did you mean ...?" with the nearest of the known names; "" where none is near."""
    names, name = list(known), name[:80].lower()
    likeness = [difflib.SequenceMatcher(None, name, other).ratio() for other in names]
    most = max(likeness, default=0.0)
    return f" Did you mean {names[likeness.index(most)]!r}?" if most >= 0.5 else ""


def folder_name(backbone: str) -> str:
    """A backbone's name as the name of a folder or file: "timm/NAME" becomes "timm-NAME", other names stay."""
    return backbone.replace("/", "-")
