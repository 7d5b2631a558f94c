"""Sweep backbones and loss weights with Ray Tune and Optuna; the winner is what `study.lopo --best` runs.

A trial's score is the MAE on people it never trained on: out-of-fold, over folds of people. Selection is sealed: the
people are cut into blocks, each block has a sweep of its own on the other blocks' people, and a person is later tested
with the config that its own block's sweep chose, so that nobody's photos had a say in the model they are tested on.
Interrupted, it goes on where it was: type the same command again.
"""

from __future__ import annotations

import json
import shutil
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Annotated, Any

import optuna
import ray
import tyro
from ray import tune

from search_spaces import Space, find_space
from study import tracking
from study.cluster import gpu_share, start_ray
from study.command import main
from study.folds import Fold, person_folds
from study.mirror import Mirror, study_of, sync_mirror
from study.options import BUILT_IN_PEOPLE, PRETRAINED, Training, faces_or_built_in, is_built_in
from study.searching import JournalSearch, Tried, best, read_journal
from study.sweep_plots import draw
from study.sweeping import Recorder, best_table, describe
from trainables.checkpoints import load_checkpoint
from trainables.config import TrialConfig, fingerprint
from trainables.faces import Faces, load_faces
from trainables.trial import tune_trial


@dataclass(frozen=True)
class Sweep:
    """Options of study.sweep."""

    training: Annotated[Training, tyro.conf.arg(name="")] = field(default_factory=Training)
    space: str = "small"
    """What is asked: small (three networks, both lambdas, learning rate), mean_variance, losses (six of them),
    backbones, efficientnet (B0 to B7 with size and drop path), transformers (ViT, Swin, ConvNeXt, EfficientNetV2),
    paper (its eleven networks), or tour (what make study runs)."""
    trials: int = 12
    """Trials of each block."""
    minutes: float | None = None
    """Start no further trial after this long (all blocks together)."""
    blocks: int = 4
    """Blocks of people for sealed selection; 2 for a quick look; 0: one sweep over all people, whose LOPO figure is
    then marked as optimistic, since its config was chosen with the tested people in sight."""
    folds: int = 3
    """Inner folds over people that score a trial."""
    faces: tuple[Path, ...] = ()
    """Faces tables with people (OUT of study.align). Default: the built-in people."""
    pretrained: Path = PRETRAINED
    """Folder of study.pretrain: a backbone found there starts from its checkpoint."""
    weights: str = "random"
    """Where a backbone has no checkpoint there: random or imagenet."""
    parallel: int | None = None
    """Trials side by side; default: as many as the resources hold."""
    cpus_per_trial: int = 1
    gpus_per_trial: float | None = None
    """Share of a GPU: 0.1 puts ten trials on one. Default: 0.25 where there are GPUs, else none."""
    prune: float = 0.1
    """Level of the paired test that ends a trial which is worse than the best; 0 never prunes."""
    name: str | None = None
    """Folder under --out and name in MLflow; default: the space's."""
    out: Path = Path("runs/sweeps")
    force: bool = False
    """Discard a sweep of this name that was made with other settings."""
    address: str | None = None
    """Ray cluster to join; default: RAY_ADDRESS, else one started here."""


@dataclass(frozen=True)
class Block:
    """Some people, and whom their config is chosen on: everyone else (or, unsealed, everyone)."""

    name: str
    people: tuple[str, ...]
    folds: tuple[Fold, ...]


def sweep(options: Sweep) -> int:
    """Run every block's trials that are still missing; returns the exit status."""
    space = find_space(options.space)
    folders = faces_or_built_in(options.faces, BUILT_IN_PEOPLE)
    base = options.training.trial_config(weights=options.weights)
    faces = load_faces(folders, px=base.px)
    blocks = make_blocks(faces, blocks=options.blocks, folds=options.folds, seed=base.seed)
    pretrained = find_pretrained(options.pretrained, space, base)
    name = options.name or options.space
    settings = {
        "space": options.space,
        "base": base.to_json(),
        "faces": faces.digest,
        "blocks": options.blocks,
        "folds": options.folds,
        "prune": options.prune,
        "lag": lag(options),
        "pretrained": {backbone: digest for backbone, (_, digest) in pretrained.items()},
    }
    folder = options.out / name
    _claim(folder, settings, force=options.force)
    start_ray(address=options.address)
    store = tracking.connect()
    key = f"sweep-{name}-{fingerprint(settings)}"
    parent = tracking.find_or_start(
        store,
        key=key,
        name=f"sweep {name}",
        stage="sweep",
        params={
            "space": options.space,
            "blocks": options.blocks,
            "folds": options.folds,
            "faces": ", ".join(map(str, folders)),
        },
    )
    print(
        f"Sweep {name!r}: {len(blocks)} block(s) x {options.trials} trials, {len(faces)} faces of "
        f"{len(faces.people)} people, {base.px} px, {options.folds} inner folds, {base.epochs} epochs",
        flush=True,
    )
    shared = _shared(faces, folders, space.px(base), pretrained)
    mirrors = {block.name: Mirror(folder, block.name, space, base) for block in blocks}
    runs = tracking.children(store, parent)
    for mirror in mirrors.values():
        _sync(mirror, runs, key)
    deadline = None if options.minutes is None else time.monotonic() + options.minutes * 60
    chosen: list[tuple[Block, Tried]] = []
    for index, block in enumerate(blocks):
        ends = None if deadline is None else time.monotonic() + (deadline - time.monotonic()) / (len(blocks) - index)
        journal = _run_block(block, options, mirrors[block.name], pretrained, shared, store, parent, key, ends)
        winner = best(journal)
        print(f"\n{block.name}: the best trials\n{best_table(journal)}\n", flush=True)
        if winner is None:
            raise ValueError(
                f"no trial of {block.name} was completed; their reasons stand in {folder / block.name}/*.json "
                "(raise --trials or --minutes, or --prune 0)"
            )
        chosen.append((block, winner))
    runs = tracking.children(store, parent)
    for mirror in mirrors.values():  # anew where trials ended side by side: now in the journal's order
        _sync(mirror, runs, key)
        plots = draw(study_of(mirror, read_journal(folder / mirror.block)), folder, name=mirror.block)
        tracking.log_files(store, parent, plots)
    record = _record(name, options, folders, faces, chosen, folder, key)
    tracking.log_json(store, parent, "best.json", record)
    figures = {f"mae {block.name}": tried.mae for block, tried in chosen if tried.mae is not None}
    tracking.finish(store, parent, metrics=figures, tags={tracking.COMPLETE: "yes", "study.name": name})
    for block, winner in chosen:
        print(
            f"{block.name} chose trial {winner.number:03d}: {describe(winner.config)}, MAE {winner.mae:.2f} on others"
        )
    print(f"Next: python -m study.lopo --best        Look: {tracking.how_to_look()}")
    print(f"Plots: {folder}/*.png        Live: optuna-dashboard sqlite:///{folder / 'optuna.db'}")
    return 0


def make_blocks(faces: Faces, *, blocks: int, folds: int, seed: int) -> list[Block]:
    """The outer blocks; blocks=0 is one block of everybody, chosen on everybody (not sealed)."""
    if blocks == 0:
        return [Block("all", tuple(faces.people), tuple(person_folds(faces, folds=folds, seed=seed)))]
    outer = person_folds(faces, folds=blocks, seed=seed)
    made = []
    for index, fold in enumerate(outer):
        inner = person_folds(faces, folds=folds, seed=seed, rows=fold.train)
        people = tuple(sorted({str(person) for person in faces.person[fold.test]}))
        made.append(Block(f"block{index + 1}of{blocks}", people, tuple(inner)))
    return made


def find_pretrained(folder: Path, space: Space, base: TrialConfig) -> dict[str, tuple[str, str]]:
    """Backbone: (checkpoint folder, fingerprint), for those of the space that study.pretrain has written there."""
    found = {}
    for backbone in space.backbones or (base.backbone,):
        place = folder / backbone
        if place.is_dir():
            about = load_checkpoint(place).about
            found[backbone] = (str(place), str(about.get("fingerprint", "")))
            print(f"  {backbone}: pretrained, {about.get('trained_on', place)}")
        else:
            print(
                f"  {backbone}: {base.weights} weights (no {place}; "
                f"make it with: python -m study.pretrain --backbone {backbone})"
            )
    return found


def lag(options: Sweep) -> int:
    """How many trials behind a trial's knowledge is (see study.searching): twice those side by side keeps all busy."""
    return 2 * (options.parallel or 2)


def _shared(
    faces: Faces, folders: list[Path], sizes: tuple[int, ...], pretrained: Mapping[str, tuple[str, str]]
) -> dict[str, Any]:
    """What every trial reads from the object store, without a copy of its own: the faces in every size, and weights."""
    weights = {
        place: ray.put({name: value.numpy() for name, value in load_checkpoint(Path(place)).state.items()})
        for place, _ in pretrained.values()
    }
    there = faces.pixels.shape[1]
    return {
        "faces": {px: ray.put(faces if px == there else load_faces(folders, px=px)) for px in sizes},
        "weights": weights,
    }


def _sync(mirror: Mirror, runs: Mapping[str, tuple[str, str]], key: str) -> None:
    """The mirror made good from the journal. runs: the parent's children (tracking.children)."""
    journal = read_journal(mirror.folder / mirror.block)
    known = {number: runs.get(f"{key}-{mirror.block}-{number}", ("", ""))[0] for number in journal}
    sync_mirror(mirror, journal, runs=known)


def _run_block(
    block: Block,
    options: Sweep,
    mirror: Mirror,
    pretrained: Mapping[str, tuple[str, str]],
    shared: Mapping[str, Any],
    store: tracking.Tracking,
    parent: str,
    key: str,
    ends: float | None,
) -> dict[int, Tried]:
    folder, base = mirror.folder, mirror.base
    place = folder / block.name
    journal = read_journal(place)
    if journal:
        print(f"{block.name}: {len(journal)} of {options.trials} trials are already there", flush=True)
    search = JournalSearch(
        mirror.space,
        base,
        journal,
        trials=options.trials,
        lag=lag(options),
        seed=base.seed,
        ends=ends,
        pretrained={backbone: path for backbone, (path, _) in pretrained.items()},
    )
    missing = options.trials - sum(number < options.trials for number in journal)
    if missing <= 0:
        return journal
    gpus = gpu_share(options.gpus_per_trial)
    parallel = options.parallel or _fits(options.cpus_per_trial, gpus)
    recorder = Recorder(search, place, store, parent=parent, key=key, block=block.name, mirror=mirror)
    run = partial(
        tune_trial,
        folds=[(fold.train, fold.test) for fold in block.folds],
        threads=options.cpus_per_trial,
        device="cuda" if gpus else "cpu",
        prune_p=options.prune,
        **shared,
    )
    # Tune's own state is thrown away: the journal is what a rerun goes on from
    scratch = folder.resolve() / ".tune"
    shutil.rmtree(scratch / block.name, ignore_errors=True)
    tuner = tune.Tuner(
        tune.with_resources(run, {"cpu": options.cpus_per_trial, "gpu": gpus}),
        tune_config=tune.TuneConfig(
            search_alg=search, num_samples=missing, max_concurrent_trials=parallel, reuse_actors=True
        ),
        run_config=tune.RunConfig(
            name=block.name,
            storage_path=str(scratch),
            callbacks=[recorder],
            verbose=0,
            failure_config=tune.FailureConfig(max_failures=2),
        ),
    )
    tuner.fit()
    shutil.rmtree(scratch, ignore_errors=True)
    return search.journal


def _fits(cpus: int, gpus: float) -> int:
    """How many trials the cluster holds side by side."""
    there = ray.cluster_resources()
    by_cpu = there.get("CPU", 1) // cpus
    fits = int(min(by_cpu, there.get("GPU", 0) // gpus if gpus else by_cpu))
    if fits < 1:
        raise ValueError(
            f"no room for one trial of {cpus} CPUs and {gpus} GPUs: Ray has {there.get('CPU', 0):g} CPUs and "
            f"{there.get('GPU', 0):g} GPUs"
        )
    return fits


def _claim(folder: Path, settings: Mapping[str, Any], *, force: bool) -> None:
    """The folder belongs to one setting: trials of two are never mixed."""
    file = folder / "sweep.json"
    if file.is_file() and json.loads(file.read_text()) != settings:
        if not force:
            raise ValueError(
                f"{folder} holds a sweep of other settings, faces or checkpoints: give another --name, or --force to "
                "discard it"
            )
        discarded = len(list(folder.glob("*/*.json")))
        print(f"Discarding {discarded} trials of another setting in {folder}")
        shutil.rmtree(folder)
    folder.mkdir(parents=True, exist_ok=True)
    temporary = file.with_suffix(".tmp")
    temporary.write_text(json.dumps(settings, indent=2, sort_keys=True))
    temporary.replace(file)


def _record(
    name: str,
    options: Sweep,
    folders: list[Path],
    faces: Faces,
    chosen: list[tuple[Block, Tried]],
    folder: Path,
    key: str,
) -> dict[str, Any]:
    """best.json: which config each block's people are to be tested with, and how it was chosen."""
    record = {
        "sweep": name,
        "key": key,
        "faces": [str(place) for place in folders],
        "faces_digest": faces.digest,
        "built_in": is_built_in(folders),
        "sealed": options.blocks > 0,
        "space": options.space,
        "trials": options.trials,
        "blocks": [
            {
                "name": block.name,
                "people": list(block.people),
                "trial": dict(tried.trial),
                "number": tried.number,
                "mae": tried.mae,
            }
            for block, tried in chosen
        ],
    }
    temporary = folder / "best.json.tmp"
    temporary.write_text(json.dumps(record, indent=2, sort_keys=True))
    temporary.replace(folder / "best.json")
    return record


if __name__ == "__main__":
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    sys.exit(main(sweep, Sweep, prog="python -m study.sweep", description=__doc__))
