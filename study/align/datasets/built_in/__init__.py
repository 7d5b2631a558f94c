"""The synthetic people: rendered faces that stand in where no data set is named. They are nobody's faces."""

from __future__ import annotations

from pathlib import Path

PEOPLE: Path = Path(__file__).parent / "people"  # FG-NET's layout: images/ and points/
STRANGERS: Path = Path(__file__).parent / "strangers"  # UTKFace's naming
