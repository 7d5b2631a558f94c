"""The companions of a command: which faces of other tables train beside its own, compared with the tested ones."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from study.artifacts.pretraining import Beside
from study.cli.options import Allowed, is_synthetic
from study.starts import named, near_copies
from trainables.config import TrialConfig
from trainables.faces.companions import Companions, draw_companions
from trainables.faces.table import Faces, Identities, identify


@dataclass(frozen=True)
class Drawn:
    """The companions of a command, and the record of them. companions: None where it has none."""

    companions: Companions | None
    record: Beside

    def beside(self, faces: Faces) -> Faces:
        """The faces with all companions after them: what trainings are given."""
        return self.companions.beside(faces) if self.companions else faces

    def taken(self, config: TrialConfig) -> Companions | None:
        """Those that a training with this config has; None where it has none."""
        return self.companions.first(config.companions) if self.companions and config.companions else None

    def key(self, config: TrialConfig) -> dict[str, str]:
        """What a training's key says of them; nothing where it has none."""
        taken = self.taken(config)
        return {"companions": taken.digest} if taken else {}


NONE = Drawn(None, Beside())


def find_companions(
    configs: Sequence[TrialConfig], beside: Sequence[Path], tested: Identities, allowed: Allowed, *, known: Beside
) -> Drawn:
    """The companions of the configs, from whole tables.

    Where no config takes any, none are drawn. known: the record of a sweep that had companions (an empty one: none),
    which these must be.
    Raises ValueError where there are no such faces, and where a tested photo or person is among the tables.
    """
    if not any(config.companions for config in configs):
        if beside:
            raise ValueError("--beside has no effect where a config has 0 companions: leave it out, or --companions 0")
        return NONE
    count = max([known.count, *(config.companions for config in configs)])
    folders = [*(beside or map(Path, known.faces))]
    if not folders:
        raise ValueError(
            f"the config has {count} companions and no table to take them from: name their faces tables after --beside"
        )
    _check_apart(folders, tested, allowed)
    companions = draw_companions(folders, most=count)
    if known.count and companions.first(known.count).digest != known.digest:
        raise ValueError(
            f"the faces at {', '.join(map(str, folders))} are not those that trained beside the sweep's: put the old "
            "ones back, or run study.sweep again with these"
        )
    record = Beside(tuple(map(str, folders)), count, companions.digest, tuple(companions.datasets))
    return Drawn(companions, record)


def _check_apart(folders: Sequence[Path], tested: Identities, allowed: Allowed) -> None:
    """Raise ValueError where companions would show a tested person, or are faces of another kind."""
    where, theirs = ", ".join(map(str, folders)), identify(folders)
    if theirs.coverage != tested.coverage and not allowed.allow_coverage:
        raise ValueError(
            f"the faces at {where} were cut with --coverage {theirs.coverage:g}, and the tested ones with "
            f"{tested.coverage:g}: align them alike, or add --allow-coverage"
        )
    if is_synthetic(theirs.datasets) != is_synthetic(tested.datasets) and not allowed.allow_synthetic:
        raise ValueError(
            f"the faces at {where} are of {', '.join(sorted(theirs.datasets))}, and the tested ones of "
            f"{', '.join(sorted(tested.datasets))}: synthetic and real faces train together only with --allow-synthetic"
        )
    photos, people = theirs.photos & tested.photos, theirs.people & tested.people
    alike = near_copies(tested.looks, theirs.looks)
    if photos or people or alike:
        raise ValueError(
            f"{len(photos)} of the tested photos and {len(people)} of the tested people are at {where} too"
            f"{named(alike)}: nobody who is tested may train beside the others; give --beside tables without them"
        )
