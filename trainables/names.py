"""The error for a name that is in no table."""

from __future__ import annotations

import difflib
from collections.abc import Iterable


def unknown(kind: str, name: str, known: Iterable[str]) -> ValueError:
    """It says what there is, and guesses what was meant: of equally near names the first in the table."""
    names = list(known)
    likeness = [difflib.SequenceMatcher(None, name.lower(), other).ratio() for other in names]
    near = max(likeness, default=0.0)
    guess = f" Did you mean {names[likeness.index(near)]!r}?" if near >= 0.5 else ""
    return ValueError(f"unknown {kind} {name!r}.{guess} There is: {', '.join(names)}")
