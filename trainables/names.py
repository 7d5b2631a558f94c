"""Errors for unknown names, with the nearest known one."""

from __future__ import annotations

import difflib
from collections.abc import Iterable


def unknown(kind: str, name: str, known: Iterable[str]) -> ValueError:
    """A ValueError that suggests the nearest known name and lists all."""
    return ValueError(f"unknown {kind} {name[:80]!r}.{near(name, known)}")


def near(name: str, known: Iterable[str]) -> str:
    """The suggestion and the list of known names, for a message. Of equally near names the first is suggested."""
    names, name = list(known), name[:80].lower()
    likeness = [difflib.SequenceMatcher(None, name, other).ratio() for other in names]
    most = max(likeness, default=0.0)
    guess = f" Did you mean {names[likeness.index(most)]!r}?" if most >= 0.5 else ""
    return f"{guess} There is: {', '.join(names)}"
