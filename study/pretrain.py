"""Pretrain backbones on faces of many people with Ray Train; a sweep and LOPO start from what this writes.

Each backbone becomes one checkpoint folder OUT/<backbone>/ (model.safetensors, trial.json). A finished one is not
trained again; an interrupted one goes on from its last snapshot, and ends as if undisturbed: type the same command
again. Faces are streamed from the tables (Ray Data) and never all in memory. Several workers train as one with the
same --batch would; but batch norm takes its statistics from each worker's own share (see --batch-norm).
"""

from __future__ import annotations

import os
import queue
import sys
import threading
from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Annotated, Any, Literal

import tyro

from study import tracking
from study.cluster import start_ray
from study.command import main, message
from study.folds import dev_split
from study.locks import hold
from study.options import BUILT_IN_STRANGERS, PRETRAINED, Training, faces_or_built_in
from study.training import Room, find_room, forget, train_with_ray
from trainables.backbones import BACKBONES
from trainables.checkpoints import Checkpoint, load_checkpoint, save_checkpoint
from trainables.config import TrialConfig, fingerprint
from trainables.fitting import Epoch, build_net
from trainables.folders import standing
from trainables.index import FacesIndex, index_faces
from trainables.names import unknown
from trainables.pretraining import Work
from trainables.streaming import make_tables


@dataclass(frozen=True)
class Pretrain:
    """Options of study.pretrain."""

    training: Annotated[Training, tyro.conf.arg(name="")] = field(default_factory=Training)
    backbone: tuple[str, ...] = ("efficientnet_b0",)
    """Networks to pretrain; `all` for every one of the study. One that fails does not stop the others."""
    faces: tuple[str, ...] = ()
    """Faces tables (OUT of study.align), trained on together: folders or URIs (s3://...) that every node reaches.
    Default: the built-in strangers."""
    weights: str = "random"
    """Start from: random, imagenet, a weights file, or a checkpoint folder."""
    out: Path = PRETRAINED
    dev_share: float = 0.1
    """Share of people (of photos where people are unknown) kept to measure on, never trained on."""
    window: int = 4096
    """Faces that are shuffled together (docs/pretraining.md). Part of what decides the result."""
    workers: int = 1
    """Data-parallel processes; the global batch is divided among them."""
    cpus_per_worker: int | None = None
    """Cores of a worker, its feeders' included. Default: this machine's cores divided among the workers; 4 on a cluster
    that was joined (--address, RAY_ADDRESS), since it may still be growing."""
    feeders: int = 1
    """How many of a worker's cores decode and augment; the others train. With one core both share it."""
    gpus_per_worker: float = 0.0
    batch_norm: Literal["worker", "global"] = "worker"
    """Over which faces batch norm takes its statistics: each worker's share of the batch, or the whole batch
    (SyncBatchNorm, on GPUs only). Without batch norm (ViT, Swin, ConvNeXt) two workers give what one does."""
    at_once: int | None = None
    """Backbones trained side by side. Default: as many as the cluster has room for, when it is full grown."""
    checkpoint_minutes: float = 5.0
    """A snapshot is written so often, and after each epoch: what a kill costs at most."""
    storage: str | None = None
    """Where Ray Train keeps what an interrupted training goes on from: a folder or URI that all nodes reach (s3://...).
    Default: OUT/.train, right for one machine."""
    force: bool = False
    """Discard the checkpoints that are there, and train again."""
    address: str | None = None
    """Ray cluster to join; default: RAY_ADDRESS, else one started here."""


def pretrain(options: Pretrain) -> int:
    """Pretrain each backbone; returns the exit status."""
    names = list(BACKBONES) if "all" in options.backbone else list(dict.fromkeys(options.backbone))
    for name in names:
        if name not in BACKBONES:
            raise unknown("backbone", name, BACKBONES)
    if options.batch_norm == "global" and not options.gpus_per_worker:
        raise ValueError("--batch-norm global needs GPUs (--gpus-per-worker): there is no SyncBatchNorm on processors")
    configs = [options.training.trial_config(backbone=name, weights=options.weights) for name in names]
    if any(config.frozen for config in configs):
        raise ValueError("pretraining trains the whole network: give --frozen to study.lopo or a sweep, not here")
    with ExitStack() as held:
        for name in names:
            held.enter_context(hold(options.out, name))
        return run_trainings(configs, options)


def run_trainings(configs: list[TrialConfig], options: Pretrain) -> int:
    """The trainings in their folders, which this process holds; returns the exit status."""
    names = [config.backbone for config in configs]
    places = options.faces or [str(place) for place in faces_or_built_in((), BUILT_IN_STRANGERS)]
    print("Reading where the faces lie ...", flush=True)
    index = index_faces(places)
    failed = pretrain_all(configs, index, options)
    if failed:
        for name, why in failed:
            print(f"{name} failed: {why}", file=sys.stderr)
        print(f"{len(failed)} of {len(names)} failed; the same command tries them again", file=sys.stderr)
        return 1
    listed = " ".join(names[:3])
    print(f"Next: python -m study.sweep --pretrained {options.out}   (it finds {listed} there)")
    return 0


def pretrain_all(configs: list[TrialConfig], index: FacesIndex, options: Pretrain) -> list[tuple[str, str]]:
    """Train what is missing, side by side as the cluster has room; (backbone, why) of what failed.

    The failure of one that was asked for alone is raised.
    """
    failed: list[tuple[str, str]] = []
    missing = []
    for config in configs:
        try:
            if not is_there(config, index, options):
                missing.append(config)
        except ValueError as error:
            if len(configs) == 1:
                raise
            failed.append((config.backbone, str(error)))
    store = tracking.connect()  # even where nothing is missing: it sends what waits from an earlier command
    if not missing:
        return failed
    start_ray(address=options.address, quiet_core=True)
    joined = bool(options.address or os.environ.get("RAY_ADDRESS"))
    room = find_room(options.workers, options.cpus_per_worker, options.gpus_per_worker, joined=joined)
    if len(configs) == 1:
        pretrain_one(configs[0], index, room, options, store)
        return []
    waiting: queue.SimpleQueue[TrialConfig] = queue.SimpleQueue()
    for config in missing:
        waiting.put(config)

    def work() -> None:
        while True:
            try:
                config = waiting.get_nowait()
            except queue.Empty:
                return
            try:
                pretrain_one(config, index, room, options, store)
            except Exception as error:
                failed.append((config.backbone, message(error) or f"{type(error).__name__}: {error}"))

    # daemons, so that Ctrl-C ends the command
    threads = [threading.Thread(target=work, daemon=True) for _ in range(options.at_once or room.at_once)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return sorted(failed)


def make_key(config: TrialConfig, index: FacesIndex, options: Pretrain) -> str:
    """The fingerprint of all that decides a training's result, save the code and how many workers share the work."""
    made_from: dict[str, Any] = {"trial": config.to_json(), "faces": index.digest}
    made_from |= {"dev_share": options.dev_share, "window": options.window}
    if options.workers > 1 and options.batch_norm == "global":
        made_from["batch_norm"] = "global"
    return fingerprint(made_from)


def is_there(config: TrialConfig, index: FacesIndex, options: Pretrain) -> bool:
    """Whether the backbone's checkpoint is finished. Raises ValueError where another one lies in its place."""
    folder = options.out / config.backbone
    if options.force or not standing(folder).is_dir():
        return False
    about = load_checkpoint(folder).about
    if about.get("fingerprint") != make_key(config, index, options):
        raise ValueError(
            f"{folder} holds a checkpoint of other settings or faces: give another --out, or --force to replace it"
        )
    print(f"{config.backbone}: already there at {folder}, dev MAE {about['dev_mae']:.2f}; --force trains it anew")
    return True


def pretrain_one(
    config: TrialConfig, index: FacesIndex, room: Room, options: Pretrain, store: tracking.Tracking
) -> Path:
    """Train one backbone and write its checkpoint folder."""
    folder, key = options.out / config.backbone, make_key(config, index, options)
    build_net(config)  # a size or weights that do not fit are said here, once, and not by workers again and again
    split = dev_split(index, share=options.dev_share, seed=config.seed)
    tables = make_tables(index, split.train, split.test, config, window=options.window)
    about: dict[str, Any] = {
        "fingerprint": key,
        "trained_on": f"{len(split.train)} faces of {', '.join(index.datasets)}, from {config.weights} weights",
        "faces_digest": index.digest,
        "dev_share": options.dev_share,
    }
    run_id = tracking.find_or_start(
        store,
        key=f"pretrain-{key}",
        name=f"pretrain {config.backbone}",
        stage="pretrain",
        params={**config.flat(), "workers": options.workers},
        tags={"study.trained_on": about["trained_on"]},
    )
    print(
        f"{config.backbone}: {len(split.train)} faces to train on, {len(split.test)} to measure on, {config.px} px, "
        f"{config.epochs} epochs, {options.workers} worker(s)",
        flush=True,
    )
    storage = options.storage or str(options.out.resolve() / ".train")
    if options.force:
        if forget(storage, key):
            print(f"Discarding the snapshots of an interrupted training in {storage}/{key}", flush=True)
        if standing(folder).is_dir():
            print(f"Discarding the checkpoint at {folder}, as soon as the new one is there", flush=True)
    work = Work(
        threads=max(1, room.cpus - options.feeders),
        feeders=options.feeders,
        snapshot_seconds=60 * options.checkpoint_minutes,
        batch_norm=options.batch_norm,
    )
    curve = _Curve(config, store, run_id)
    snapshot, last = train_with_ray(config, tables, key=key, storage=storage, work=work, room=room, on_epoch=curve.tell)
    curve.log()
    about |= {"dev_mae": last.validation_mae, "dev_faces": len(split.test), "epochs": last.epoch}
    save_checkpoint(folder, Checkpoint(snapshot.average or snapshot.net, config, about))
    tracking.log_json(store, run_id, "trial.json", {"trial": config.to_json(), "about": about})
    tracking.finish(store, run_id, metrics={"dev_mae": last.validation_mae}, tags={tracking.COMPLETE: "yes"})
    forget(storage, key)  # only now: until here a rerun goes on from it
    print(
        f"{config.backbone}: dev MAE {last.validation_mae:.2f} years on {len(split.test)} faces; checkpoint at {folder}"
    )
    return folder


@dataclass
class _Curve:
    """Prints each epoch and logs it. What a full disk does not take is said, and logged with the next epoch."""

    config: TrialConfig
    store: tracking.Tracking
    run_id: str
    unlogged: list[tuple[int, Mapping[str, float]]] = field(default_factory=list)

    def tell(self, epoch: Epoch) -> None:
        """One more epoch; from the listener's thread, where an error would be nobody's."""
        left = (self.config.epochs - epoch.epoch) * epoch.seconds
        print(
            f"  {self.config.backbone} epoch {epoch.epoch}/{self.config.epochs}: loss {epoch.train_loss:.3f}, "
            f"dev MAE {epoch.validation_mae:.2f}, {epoch.faces_per_second:.0f} faces/s "
            f"({epoch.waited:.0%} waiting), {left / 60:.0f} min left",
            flush=True,
        )
        self.unlogged.append((epoch.epoch, {k: v for k, v in asdict(epoch).items() if k != "epoch"}))
        try:
            self.log()
        except OSError as error:
            print(f"  {self.config.backbone} epoch {epoch.epoch} not logged: {error}", file=sys.stderr)

    def log(self) -> None:
        """What is not logged yet. Raises OSError where the disk is full."""
        if self.unlogged:
            tracking.log_steps(self.store, self.run_id, self.unlogged)
            self.unlogged.clear()


if __name__ == "__main__":
    sys.exit(main(pretrain, Pretrain, prog="python -m study.pretrain", description=__doc__))
