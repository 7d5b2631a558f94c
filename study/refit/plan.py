"""What will be trained, on what, and under which keys. Refuses early."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import study
from study.artifacts.aligned import Recipe
from study.artifacts.best import Best
from study.artifacts.brands import brand
from study.artifacts.model import Chosen
from study.artifacts.pretraining import Beside
from study.cli.options import PEOPLE, faces_or_synthetic, is_synthetic
from study.companions import NONE, Drawn, find_companions
from study.plain import printable
from study.refit.choose import BY_HAND, choose_winner
from study.refit.options import Refit
from study.starts import Start, check_starts, read_start
from study.tracking import runs as tracking
from study.tracking.sweeps import newest_sweep
from trainables import code_version, source_digest
from trainables.checkpoints import Checkpoint
from trainables.config import TrialConfig, fingerprint
from trainables.device import resolve_precision
from trainables.faces.table import ALIGNMENT_KEY, Faces, damaged, load_faces, open_parquet, table_files
from trainables.frozen.checks import check_frozen


@dataclass(frozen=True)
class Plan:
    """What becomes a model: the config, its faces and start, how it was chosen, and how faces are aligned.

    winners: the configs that the sweep's LOPO result was made with (the config alone, where it was given by hand).
    brand: words that must stand next to a result of it. untuned: the checkpoint that becomes the model as it is; faces
    are then those that it learned from. drawn: the companions of its trainings.
    """

    name: str
    config: TrialConfig
    seeds: int
    chosen: Chosen
    winners: tuple[TrialConfig, ...]
    faces: Faces
    start: Start
    alignment: Recipe
    brand: str
    untuned: Checkpoint | None = None
    drawn: Drawn = NONE

    @property
    def synthetic(self) -> bool:
        """Whether it learns from synthetic people."""
        return is_synthetic(self.faces.datasets)

    def training_key(self, device: str) -> str:
        """12 hex digits of all that decides the trainings."""
        return fingerprint(
            {
                "trial": {**self.config.to_json(), "weights": self.start.digest},
                "faces": self.faces.digest,
                "seeds": self.seeds,
                "code": code_version(),
                "device": device,
                "precision": resolve_precision(self.config, device),
                **({"untuned": True} if self.untuned else {}),
                **self.drawn.key(self.config),
            }
        )


def make_plan(options: Refit, store: tracking.Tracking) -> Plan:
    """The plan for these options. Raises ValueError or FileNotFoundError where it cannot be done."""
    best = newest_sweep(store, name=options.sweep) if options.best else None
    folders = faces_or_synthetic(options.faces or tuple(map(Path, best.faces if best else ())), PEOPLE)
    if best:
        chosen, config, winners, faces = _of_sweep(best, folders, options)
    else:
        config = options.training.config_beside(options.beside, backbone=options.backbone, weights=options.weights)
        chosen, winners, faces = Chosen(BY_HAND), (config,), load_faces(folders, px=config.px)
    check_frozen(config)
    config.replace(seed=config.seed + options.seeds - 1)  # the last seed must be valid too
    start = read_start(config.backbone, config.weights)
    if best:
        _check_weights(best, start)
    learned_from = check_starts([start], faces.identities, options.allowed)
    known = best.beside if best else Beside()
    drawn = find_companions([config, *winners], options.beside, faces.identities, options.allowed, known=known)
    name = options.name or printable(f"best of {best.sweep}" if best else config.backbone)
    mark = brand(sealed=best.sealed if best else True, learned_from=learned_from)
    return Plan(name, config, options.seeds, chosen, winners, faces, start, read_alignment(folders), mark, drawn=drawn)


def _of_sweep(
    best: Best, folders: Sequence[Path], options: Refit
) -> tuple[Chosen, TrialConfig, tuple[TrialConfig, ...], Faces]:
    """The chosen winner's config and all winners', with the options' values, and the faces."""
    configs = {block.name: options.training.change(block.config) for block in best.blocks}
    faces = load_faces(folders, px=configs[best.blocks[0].name].px)
    if best.faces_digest not in (None, faces.digest):
        raise ValueError(
            f"the faces at {', '.join(map(str, folders))} are not those the sweep chose on: run study.sweep on these, "
            "or give the config by hand with --trial FILE"
        )
    chosen = choose_winner(best, faces)
    config = configs[chosen.block]
    if given := ", ".join(f"--{name.replace('_', '-')} {value}" for name, value in options.training.given.items()):
        chosen = replace(chosen, rule=f"{chosen.rule}; then by hand {given}")
    if config.px != configs[best.blocks[0].name].px:
        faces = load_faces(folders, px=config.px)
    return chosen, config, tuple(configs.values()), faces


def _check_weights(best: Best, start: Start) -> None:
    """Raise ValueError if the weights are no longer those that the sweep's trials started from."""
    for there in best.starts:
        if (there.backbone, there.weights) == (start.backbone, start.weights) and there.digest != start.digest:
            raise ValueError(
                f"the weights of {start.backbone} at {start.weights} are not those that the sweep's trials started "
                "from (another SHA-256): put the old ones back, or run study.sweep again with these"
            )


def read_alignment(folders: Sequence[Path]) -> Recipe:
    """How the tables' faces were cut. Raises ValueError where their files do not say, or two tables differ."""
    found: Recipe | None = None
    for folder in folders:
        for file in table_files(folder):
            with open_parquet(file) as table:
                made = (table.schema_arrow.metadata or {}).get(ALIGNMENT_KEY)
            if made is None:
                raise ValueError(
                    f"{file} does not say how its faces were aligned, so a new photo cannot be aligned alike: align "
                    "again with: python -m study.align"
                )
            try:
                recipe = Recipe.from_json(json.loads(made))
            except ValueError as error:
                raise damaged(file, error) from error
            recipe = replace(recipe, shard=0)
            if found is not None and (differ := found.differences(replace(recipe, dataset=found.dataset))):
                raise ValueError(f"the faces tables were aligned in different ways ({differ}): align them alike")
            found = found or recipe
    if found is None:
        raise ValueError("no faces table was given")
    return found


def code_digests() -> Mapping[str, str]:
    """Digests of the source code that decides a model: the learning, and everything that predicting uses."""
    home = Path(study.__file__).parent
    further = [home / "statistics" / name for name in ("intervals.py", "conformal.py")]
    return {
        "trainables": code_version(),
        "model": source_digest(home / "model", *sorted((home / "landmarks").glob("*.py")), *further),
    }


def content_key(training: str, measured: Any, plan: Plan) -> str:
    """12 hex digits of all that decides a model folder."""
    return fingerprint([training, measured, dict(code_digests()), plan.name, plan.chosen.rule, plan.brand])
