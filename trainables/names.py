"""The error for a name that is in no table."""

from __future__ import annotations

import difflib
from collections.abc import Iterable


def unknown(kind: str, name: str, known: Iterable[str]) -> ValueError:
    """It says what there is, and guesses what was meant."""
    return ValueError(f"unknown {kind} {name[:80]!r}.{near(name, known)}")


def near(name: str, known: Iterable[str]) -> str:
    """The guess and the list of what there is, for a message: of equally near names the first in the table."""
    names, name = list(known), name[:80].lower()
    likeness = [difflib.SequenceMatcher(None, name, other).ratio() for other in names]
    most = max(likeness, default=0.0)
    guess = f" Did you mean {names[likeness.index(most)]!r}?" if most >= 0.5 else ""
    return f"{guess} There is: {', '.join(names)}"
