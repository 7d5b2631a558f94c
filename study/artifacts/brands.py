"""Words that stand with a result wherever it appears: terminal, tables, pictures, MLflow."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

MEANING = {
    "OPTIMISTIC": "Its config was chosen by its error on these same people.",
    "OVERLAP": "Its network was pretrained on some of the tested people or photos.",
    "SYNTHETIC START": "Its network was pretrained on synthetic faces.",
}
"""Every brand and what it says of a result."""


def brand(about: Mapping[str, Any]) -> str:
    """The words of MEANING that hold for a result, from its about.json or best.json; "" for an honest one."""
    learned_from = about.get("learned_from") or {}
    words = {
        "OPTIMISTIC": not about.get("sealed", True),
        "OVERLAP": learned_from.get("state") == "overlap",
        "SYNTHETIC START": bool(learned_from.get("synthetic")),
    }
    return ", ".join(word for word, holds in words.items() if holds)


def branded(name: str, about: Mapping[str, Any]) -> str:
    """A name with the brand behind it: "ResNet-18 [OPTIMISTIC]"."""
    words = brand(about)
    return f"{name} [{words}]" if words else name


def unlike(starts: Sequence[Mapping[str, str]]) -> str:
    """How the starts (Start.record of study.starts) of several networks differ, in a sentence; "" where alike."""
    by_what: dict[str, list[str]] = {}
    for start in starts:
        by_what.setdefault(start["what"].split(", dev MAE")[0], []).append(start["backbone"])
    if len(by_what) < 2:
        return ""
    told = "; ".join(f"{', '.join(dict.fromkeys(names))}: {what}" for what, names in by_what.items())
    return f"the networks do not start alike ({told}), so a difference between them is not of the networks alone"
