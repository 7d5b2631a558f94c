"""Which config each left-out person is tested with, and one sentence on how it was chosen."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from study.artifacts.best import Best
from study.artifacts.choice import AppliedChoice
from study.artifacts.pretraining import LearnedFrom
from study.cli.options import Training
from study.plain import printable
from study.starts import Start
from study.tracking import runs as tracking
from trainables.config import TrialConfig

UNSEALED = (
    "OPTIMISTIC: the config was chosen by its error on these same people, who had a say in the model they are "
    "tested on (python -m study.sweep without --select none seals the choice)"
)
SEALED = {
    "blocks": "sealed: each person is tested with the config chosen on other blocks' people alone",
    "dev": "sealed: the config was chosen on a dev part of the pretraining data, without any label of these people",
}
"""How each way to choose (study.sweep --select) is told where the tested people had no say."""


@dataclass(frozen=True)
class Plan:
    """`trials`: config by left-out person, with None for everyone not named.

    choice: what the sweep says of how far its choice can be trusted (study.sweep.optimism), and whose each block's is.
    apart_from: faces tables that none of the tested photos may lie in. chosen_with: for (backbone, weights) the digest
    of the weights that the sweep's trials started from; learned_from: what check_starts said of all its networks;
    unlike: how their starts differed. sweep: name and key of the sweep, none by hand: the same config from elsewhere is
    another result.
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

    def check_weights(self, starts: Sequence[Start]) -> None:
        """Raise ValueError where weights are no longer those that the sweep chose with."""
        for start in starts:
            chosen = self.chosen_with.get((start.backbone, start.weights), start.digest)
            if chosen != start.digest:
                raise ValueError(
                    f"the weights of {start.backbone} at {start.weights} are not those that the sweep's trials "
                    "started from (another SHA-256): put the old ones back, or run study.sweep again with these"
                )

    def config(self, person: str) -> TrialConfig:
        """The config that this person's fold trains."""
        found = self.trials.get(person, self.trials.get(None))
        if found is None:
            raise ValueError(f"the sweep knows no person {person!r}: it ran on other faces; run study.sweep on these")
        return found


def plan_by_hand(training: Training, *, backbone: str | None, weights: str | None) -> Plan:
    """One config for everyone, given on the command line or in a file."""
    config = training.trial_config(backbone=backbone, weights=weights)
    where = f"in {training.trial}" if training.trial else "on the command line"
    told = f"one config for everyone, given by hand {where}: nothing was chosen by this command"
    return Plan(config.backbone, {None: config}, told, True, (), None)


def plan_of_sweep(store: tracking.Tracking, *, name: str | None, training: Training) -> Plan:
    """The winner of the newest finished sweep (of this name or in this folder), a config a block of people.

    Options of training are put in the place of each winner's own, which the selection says. Raises ValueError where no
    sweep is finished.
    """
    sweeps = tracking.finished(store, stage="sweep")
    named = [(run_id, tags) for run_id, _, tags in sweeps if name is None or _is_named(name, tags)]
    if not named:
        there = sorted({tags.get("study.name", "") for _, _, tags in sweeps})
        raise ValueError(
            f"no finished sweep{f' named {name!r}' if name else ''} in {store.place.shown}"
            + (f" (there is: {', '.join(there)})" if there else "")
            + ": run one first with: python -m study.sweep"
        )
    run_id = named[0][0]
    best = Best.from_json(tracking.read_json(store, run_id, "best.json"), where=f"run {run_id}: best.json")
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
    )


def _is_named(name: str, tags: Mapping[str, str]) -> bool:
    """Whether a sweep is meant by its name, which several may have, or by its folder as its command printed it."""
    return name == tags.get("study.name") or Path(name) == Path(tags.get("study.folder", "."))
