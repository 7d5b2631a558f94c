"""What best.json and about.json record of the weights that networks start from."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True)
class StartRecord:
    """The weights of one network: as its config names them, their digest by content, and `what` they learned from."""

    backbone: str
    weights: str
    digest: str
    what: str


@dataclass(frozen=True)
class Beside:
    """Faces of other tables that trained beside the tested people's (trainables.faces.companions): the tables, how many
    faces at most, and the digest of these. A config says how many of them its training had."""

    faces: tuple[str, ...] = ()
    count: int = 0
    digest: str = ""
    datasets: tuple[str, ...] = ()

    def sentence(self, taken: str) -> str:
        """In words, for a result whose configs took so many ("1000", "0 or 1000"); "" where they took none."""
        if taken == "0" or not self.count:
            return ""
        return f"{taken} faces of {', '.join(self.datasets)} trained beside, and nobody of them is tested"


@dataclass(frozen=True)
class LearnedFrom:
    """What the networks learned from, compared with the tested people and photos (study.starts.check_starts).

    state: "apart" (none of the tested is among them), "overlap", or "unknown" (some weights have no record of their
    photos). photos, people: how many of the tested they learned from. compared: photos with a record. synthetic:
    pretrained on synthetic faces. sentence: all of it in words. near: further tested photos that are near-identical to
    one that they learned from; 0 in records of earlier versions, which compared bytes alone.
    """

    state: Literal["apart", "unknown", "overlap"]
    photos: int
    people: int
    compared: int
    synthetic: bool
    sentence: str
    near: int = 0
