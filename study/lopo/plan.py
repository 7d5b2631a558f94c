"""Which config each left-out person is tested with, how it was chosen, and the faces and weights that it needs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from study.artifacts.choice import AppliedChoice
from study.artifacts.pretraining import Beside, LearnedFrom
from study.cli.describe import params
from study.cli.options import PEOPLE, Training, faces_or_synthetic
from study.companions import Drawn, find_companions
from study.lopo.options import Lopo
from study.plain import printable
from study.starts import Start, check_apart, check_starts, read_start, worst
from study.tracking import runs as tracking
from study.tracking.sweeps import newest_sweep
from trainables.config import TrialConfig
from trainables.faces.table import Faces, load_faces
from trainables.frozen.checks import check_frozen

UNSEALED = (
    "OPTIMISTIC: the config was chosen by its error on these same people, who had a part in choosing the model that "
    "they are tested on (python -m study.sweep without --select none seals the choice)"
)
SEALED = {
    "blocks": "sealed: each person is tested with the config chosen on other blocks' people alone",
    "dev": "sealed: the config was chosen on a dev part of the pretraining data, without any label of these people",
}
"""What is said of a sealed choice, by study.sweep --select."""


@dataclass(frozen=True)
class Plan:
    """trials: config by left-out person; None: for everyone who is not named.

    choice: how far the sweep's choice can be trusted, and whom each block's winner is used for. apart_from: faces
    tables that must not contain a tested photo. chosen_with: by (backbone, weights), the digest of the weights that the
    sweep's trials started from. learned_from: what check_starts found for all its networks. unlike: how their starts
    differed. sweep: its name and key, none for a config given by hand: the same config, chosen in another way, is
    another result. beside: the companions that the sweep had.
    """

    name: str
    trials: Mapping[str | None, TrialConfig]
    selection: str
    sealed: bool
    faces: tuple[Path, ...]
    faces_digest: str | None
    choice: AppliedChoice | None = None
    apart_from: tuple[Path, ...] = ()
    chosen_with: Mapping[tuple[str, str], str] = field(default_factory=dict)
    learned_from: tuple[LearnedFrom, ...] = ()
    unlike: str = ""
    sweep: tuple[str, ...] = ()
    beside: Beside = field(default_factory=Beside)

    def check_weights(self, starts: Sequence[Start]) -> None:
        """Raise ValueError if weights are no longer those that the sweep's trials started from."""
        for start in starts:
            chosen = self.chosen_with.get((start.backbone, start.weights), start.digest)
            if chosen != start.digest:
                raise ValueError(
                    f"the weights of {start.backbone} at {start.weights} are not those that the sweep's trials "
                    "started from (another SHA-256): put the old ones back, or run study.sweep again with these"
                )

    def config(self, person: str) -> TrialConfig:
        """The config of this person's fold."""
        found = self.trials.get(person, self.trials.get(None))
        if found is None:
            raise ValueError(f"the sweep knows no person {person!r}: it ran on other faces; run study.sweep on these")
        return found


@dataclass(frozen=True)
class Inputs:
    """What the folds need: the configs, each once; the faces tables' folders; the faces by picture size (px); where
    networks start from, by (backbone, weights); what these starts learned from; and the companions."""

    configs: tuple[TrialConfig, ...]
    folders: tuple[Path, ...]
    tables: Mapping[int, Faces]
    starts: Mapping[tuple[str, str], Start]
    learned_from: LearnedFrom
    drawn: Drawn

    @property
    def faces(self) -> Faces:
        """The faces, in one of the sizes."""
        return next(iter(self.tables.values()))

    @property
    def params(self) -> dict[str, Any]:
        """What names the result in MLflow's columns: values of its config, or of several, and what they start from."""
        what = " or ".join(dict.fromkeys(start.what for start in self.starts.values()))
        return {**params(self.configs), "start": what}


def read_inputs(plan: Plan, options: Lopo) -> Inputs:
    """What the plan's folds need. Raises ValueError if faces or weights are not those that the plan allows."""
    folders = faces_or_synthetic(options.faces or plan.faces, PEOPLE)
    configs = tuple({config.fingerprint(): config for config in plan.trials.values()}.values())
    for config in configs:
        check_frozen(config)
        config.replace(seed=config.seed + options.seeds - 1)  # the last seed must be valid too
    tables = {px: load_faces(folders, px=px) for px in sorted({config.px for config in configs})}
    faces = next(iter(tables.values()))
    if plan.faces_digest not in (None, faces.digest):
        raise ValueError(
            f"the faces at {', '.join(map(str, folders))} are not those the sweep chose on: run study.sweep on these, "
            "or give the config by hand with --trial FILE"
        )
    if plan.apart_from:
        check_apart(plan.apart_from, folders)
    used = sorted({(config.backbone, config.weights) for config in configs})
    starts = {which: read_start(*which) for which in used}
    plan.check_weights(list(starts.values()))
    learned_from = worst([check_starts(list(starts.values()), faces.identities, options.allowed), *plan.learned_from])
    drawn = find_companions(configs, options.beside, faces.identities, options.allowed, known=plan.beside)
    return Inputs(configs, tuple(folders), tables, starts, learned_from, drawn)


def plan_by_hand(training: Training, *, backbone: str | None, weights: str | None, beside: Sequence[Path] = ()) -> Plan:
    """One config for everyone, given on the command line or in a file."""
    config = training.config_beside(beside, backbone=backbone, weights=weights)
    where = f"in {training.trial}" if training.trial else "on the command line"
    selection = f"one config for everyone, given by hand {where}: nothing was chosen by this command"
    return Plan(config.backbone, {None: config}, selection, True, (), None)


def plan_of_sweep(store: tracking.Tracking, *, name: str | None, training: Training) -> Plan:
    """The winners of the newest finished sweep (with this name or in this folder), a config per block of people.

    Options of training replace each winner's values, and the selection says so. Raises ValueError if no sweep is
    finished.
    """
    best = newest_sweep(store, name=name)
    given = ", ".join(f"--{name.replace('_', '-')} {value}" for name, value in training.given.items())
    trials: dict[str | None, TrialConfig] = {}
    for block in best.blocks:
        trials.update(dict.fromkeys(block.people or [None], training.change(block.config)))
    picks = "; ".join(f"{block.name}: trial {block.number} ({block.config.backbone})" for block in best.blocks)
    how = f"sweep {best.sweep!r}, {SEALED[best.select]}" if best.sealed else UNSEALED
    changed = f", then by hand {given}" if given else ""
    return Plan(
        printable(f"best of {best.sweep}"),
        trials,
        printable(f"{how} [{picks}]{changed}"),
        best.sealed,
        tuple(map(Path, best.faces)),
        best.faces_digest,
        AppliedChoice(**vars(best.choice), select=best.select, people={each.name: each.people for each in best.blocks}),
        tuple(map(Path, best.apart_from)),
        {(start.backbone, start.weights): start.digest for start in best.starts},
        (best.learned_from,),
        best.unlike,
        (best.sweep, best.key),
        best.beside,
    )
