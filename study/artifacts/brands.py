"""Words that stand next to a result wherever it appears: terminal, tables, pictures, MLflow."""

from __future__ import annotations

from collections.abc import Sequence

from study.artifacts.pretraining import LearnedFrom, StartRecord

MEANING = {
    "OPTIMISTIC": "Its config was chosen by its error on these same people.",
    "OVERLAP": "Its network was pretrained on some of the tested people or photos, or on copies of them.",
    "SYNTHETIC START": "Its network was pretrained on synthetic faces.",
}
"""Every word, and what it says of a result."""


def brand(*, sealed: bool = True, learned_from: LearnedFrom | None = None) -> str:
    """The words of MEANING that hold for a result, joined by commas; "" if none does."""
    words = {
        "OPTIMISTIC": not sealed,
        "OVERLAP": learned_from is not None and learned_from.state == "overlap",
        "SYNTHETIC START": learned_from is not None and learned_from.synthetic,
    }
    return ", ".join(word for word, holds in words.items() if holds)


def branded(name: str, brand: str) -> str:
    """A name followed by its brand: "ResNet-18 [OPTIMISTIC]"."""
    return f"{name} [{brand}]" if brand else name


def unlike(starts: Sequence[StartRecord]) -> str:
    """How the starts of several networks differ, as a sentence; "" if they do not."""
    by_what: dict[str, list[str]] = {}
    for start in starts:
        by_what.setdefault(start.what.split(", dev MAE")[0], []).append(start.backbone)
    if len(by_what) < 2:
        return ""
    groups = "; ".join(f"{', '.join(dict.fromkeys(names))}: {what}" for what, names in by_what.items())
    return f"the networks do not start alike ({groups}), so a difference between them is not due to the networks alone"
