"""Which config each left-out person is tested with, and one sentence on how it was chosen."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from study import tracking
from study.options import Training
from study.records import unseal
from trainables.checkpoints import load_checkpoint
from trainables.config import TrialConfig
from trainables.folders import standing

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

    choice: what the sweep says of how far its choice can be trusted (study.choice), and whose each block's is.
    apart_from: faces tables that none of the tested photos may lie in.
    """

    name: str
    trials: Mapping[str | None, TrialConfig]
    selection: str
    sealed: bool
    faces: tuple[Path, ...]
    faces_digest: str | None
    choice: Mapping[str, Any] = field(default_factory=dict)
    apart_from: tuple[Path, ...] = ()

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
    """The winner of the newest finished sweep (of this name), a config a block of people.

    Raises ValueError where no sweep is finished.
    """
    sweeps = tracking.finished(store, stage="sweep")
    named = [(run_id, tags) for run_id, _, tags in sweeps if name in (None, tags.get("study.name"))]
    if not named:
        there = sorted({tags.get("study.name", "") for _, _, tags in sweeps})
        raise ValueError(
            f"no finished sweep{f' named {name!r}' if name else ''} in {store.uri}"
            + (f" (there is: {', '.join(there)})" if there else "")
            + ": run one first with: python -m study.sweep"
        )
    run_id = named[0][0]
    try:
        best = unseal(tracking.read_json(store, run_id, "best.json"), where=f"best.json of the MLflow run {run_id}")
    except ValueError as error:
        raise ValueError(f"{error}; the same study.sweep command writes it again") from error
    given = {k: v for k, v in vars(training).items() if v is not None and k not in ("config", "trial")}
    trials: dict[str | None, TrialConfig] = {}
    for block in best["blocks"]:
        config = TrialConfig.from_json(block["trial"]).replace(**given)
        trials.update(dict.fromkeys(block["people"] or [None], config))
    picks = "; ".join(
        f"{b['name']}: trial {b['number']} ({TrialConfig.from_json(b['trial']).backbone})" for b in best["blocks"]
    )
    how = f"sweep {best['sweep']!r}, {SEALED[best['select']]}" if best["sealed"] else UNSEALED
    changed = f", then by hand {given}" if given else ""
    faces = tuple(Path(folder) for folder in best["faces"])
    return Plan(
        f"best of {best['sweep']}",
        trials,
        f"{how} [{picks}]{changed}",
        best["sealed"],
        faces,
        best["faces_digest"],
        {**best["choice"], "select": best["select"], "people": {b["name"]: b["people"] for b in best["blocks"]}},
        tuple(Path(folder) for folder in best["apart_from"]),
    )


def describe_pretraining(weights: str) -> dict[str, Any]:
    """What is known of a starting point: one sentence under "what", and the fingerprint of its making."""
    if weights == "random":
        return {"what": "none (random weights)", "fingerprint": "random"}
    if weights == "imagenet":
        return {"what": "ImageNet", "fingerprint": "imagenet"}
    if standing(Path(weights)).is_dir():
        about = load_checkpoint(Path(weights)).about
        dev = f", dev MAE {about['dev_mae']:.2f}" if "dev_mae" in about else ""
        return {
            "what": f"{about.get('trained_on', weights)}{dev}",
            "fingerprint": about.get("fingerprint", weights),
        }
    return {"what": f"weights file {weights}", "fingerprint": weights}
