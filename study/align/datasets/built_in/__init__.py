"""The synthetic people: rendered faces, used where no dataset is named. They depict no real person."""

from __future__ import annotations

from pathlib import Path

PEOPLE: Path = Path(__file__).parent / "people"  # FG-NET's layout: images/ and points/
STRANGERS: Path = Path(__file__).parent / "strangers"  # UTKFace's naming
