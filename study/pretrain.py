"""Pretrain backbones on faces of many people with Ray Train; a sweep and LOPO start from what this writes.

Each backbone becomes one checkpoint folder OUT/<backbone>/ (model.safetensors, trial.json). A finished one is not
trained again; an interrupted one goes on after its last finished epoch: type the same command again.
"""

from __future__ import annotations

import sys
import threading
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from functools import partial
from pathlib import Path
from typing import Annotated, Any

import pyarrow.fs as fs
import ray
import ray.train
import ray.train.torch
import tyro
from ray.util.queue import Empty, Queue

from study import tracking
from study.cluster import start_ray
from study.command import main
from study.folds import dev_split
from study.options import BUILT_IN_STRANGERS, PRETRAINED, Training, faces_or_built_in
from trainables.backbones import BACKBONES
from trainables.checkpoints import Checkpoint, load_checkpoint, save_checkpoint
from trainables.config import TrialConfig, fingerprint
from trainables.faces import Faces, load_faces
from trainables.fitting import Diverged, Epoch
from trainables.names import unknown
from trainables.pretraining import pretrain_worker, read_snapshot


@dataclass(frozen=True)
class Pretrain:
    """Options of study.pretrain."""

    training: Annotated[Training, tyro.conf.arg(name="")] = field(default_factory=Training)
    backbone: tuple[str, ...] = ("efficientnet_b0",)
    """Networks to pretrain, one after another; `all` for every one of the study."""
    faces: tuple[Path, ...] = ()
    """Faces tables (OUT of study.align), trained on together. Default: the built-in strangers."""
    weights: str = "random"
    """Start from: random, imagenet, a weights file, or a checkpoint folder."""
    out: Path = PRETRAINED
    dev_share: float = 0.1
    """Share of people (of photos where people are unknown) kept to measure on, never trained on."""
    workers: int = 1
    """Data-parallel processes; the global batch is divided among them."""
    cpus_per_worker: int | None = None
    """Default: the machine's cores divided among the workers."""
    gpus_per_worker: float = 0.0
    storage: str | None = None
    """Where Ray Train keeps what an interrupted training goes on from: a folder or URI that all nodes reach (s3://...).
    Default: OUT/.train, right for one machine."""
    force: bool = False
    """Train anew what is already there."""
    address: str | None = None
    """Ray cluster to join; default: RAY_ADDRESS, else one started here."""


def pretrain(options: Pretrain) -> int:
    """Pretrain each backbone; returns the exit status."""
    names = list(BACKBONES) if "all" in options.backbone else list(options.backbone)
    for name in names:
        if name not in BACKBONES:
            raise unknown("backbone", name, BACKBONES)
    folders = faces_or_built_in(options.faces, BUILT_IN_STRANGERS)
    configs = [options.training.trial_config(backbone=name, weights=options.weights) for name in names]
    faces: dict[int, Faces] = {}
    for config in configs:
        if config.px not in faces:
            print(f"Reading faces at {config.px} px ...", flush=True)
            faces[config.px] = load_faces(folders, px=config.px)
        pretrain_one(config, faces[config.px], options)
    listed = " ".join(names[:3])
    print(f"Next: python -m study.sweep --pretrained {options.out}   (it finds {listed} there)")
    return 0


def pretrain_one(config: TrialConfig, faces: Faces, options: Pretrain) -> Path:
    """One backbone's checkpoint folder, trained where it is missing or made from something else."""
    folder = options.out / config.backbone
    split = dev_split(faces, share=options.dev_share, seed=config.seed)
    key = fingerprint({"trial": config.to_json(), "faces": faces.digest, "dev_share": options.dev_share})
    if folder.is_dir() and not options.force:
        about = load_checkpoint(folder).about
        if about.get("fingerprint") == key:
            print(
                f"{config.backbone}: already there at {folder}, dev MAE {about['dev_mae']:.2f}; --force trains it anew"
            )
            return folder
        raise ValueError(
            f"{folder} holds a checkpoint of other settings or faces: give another --out, or --force to replace it"
        )
    start_ray(address=options.address)
    store = tracking.connect()
    sets = ", ".join(sorted({photo.split("/")[0] for photo in faces.photo}))
    about = {
        "fingerprint": key,
        "trained_on": f"{len(split.train)} faces of {sets}, from {config.weights} weights",
        "faces_digest": faces.digest,
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
        _forget(storage, key)
    result = _train(config, faces, split, key, storage, options, _log_epoch(store, run_id))
    if result.checkpoint is None or result.metrics is None:
        raise RuntimeError(f"Ray Train ended without a checkpoint in {storage}/{key}")
    with result.checkpoint.as_directory() as place:
        snapshot = read_snapshot(Path(place))
    dev_mae = float(result.metrics["validation_mae"])
    about |= {"dev_mae": dev_mae, "dev_faces": len(split.test), "epochs": config.epochs}
    save_checkpoint(folder, Checkpoint(snapshot.average or snapshot.net, config, about))
    tracking.log_json(store, run_id, "trial.json", {"trial": config.to_json(), "about": about})
    tracking.finish(store, run_id, metrics={"dev_mae": dev_mae}, tags={tracking.COMPLETE: "yes"})
    _forget(storage, key)  # only now: until here a rerun goes on from it
    print(f"{config.backbone}: dev MAE {dev_mae:.2f} years on {len(split.test)} faces; checkpoint at {folder}")
    return folder


def _train(
    config: TrialConfig, faces: Faces, split: Any, key: str, storage: str, options: Pretrain, log: Any
) -> ray.train.Result:
    cpus = options.cpus_per_worker or max(1, int(ray.cluster_resources().get("CPU", 1)) // options.workers)
    queue = Queue()
    listener = threading.Thread(target=_listen, args=(queue, config, log), daemon=True)
    listener.start()
    trainer = ray.train.torch.TorchTrainer(
        partial(
            pretrain_worker,
            faces=ray.put(faces),
            train=ray.put(split.train),
            dev=ray.put(split.test),
            on_epoch=queue.put,
        ),
        train_loop_config={"trial": config.to_json(), "threads": cpus},
        scaling_config=ray.train.ScalingConfig(
            num_workers=options.workers,
            use_gpu=options.gpus_per_worker > 0,
            resources_per_worker={
                "CPU": cpus,
                **({"GPU": options.gpus_per_worker} if options.gpus_per_worker else {}),
            },
        ),
        run_config=ray.train.RunConfig(
            name=key,
            storage_path=storage,
            failure_config=ray.train.FailureConfig(max_failures=3),
            checkpoint_config=ray.train.CheckpointConfig(num_to_keep=2),
        ),
    )
    try:
        return trainer.fit()
    except ray.train.WorkerGroupError as error:
        worker, cause = next(iter(error.worker_failures.items()))
        if isinstance(cause, Diverged):
            raise cause from None
        raise RuntimeError(f"worker {worker} of the pretraining failed") from cause
    finally:
        queue.put(None)
        listener.join(timeout=60)


def _forget(storage: str, key: str) -> None:
    """Delete Ray Train's state of a finished training."""
    filesystem, path = fs.FileSystem.from_uri(storage)
    if filesystem.get_file_info(f"{path}/{key}").type == fs.FileType.Directory:
        filesystem.delete_dir(f"{path}/{key}")


def _listen(queue: Queue, config: TrialConfig, log: Any) -> None:
    """Print and log each epoch as the worker tells it."""
    while True:
        try:
            told = queue.get(timeout=5)
        except Empty:
            continue
        except Exception:  # Ray is going down: nothing more will be told
            return
        if told is None:
            return
        epoch = Epoch(**told)
        left = (config.epochs - epoch.epoch) * epoch.seconds
        print(
            f"  epoch {epoch.epoch}/{config.epochs}: loss {epoch.train_loss:.3f}, dev MAE {epoch.validation_mae:.2f}, "
            f"{epoch.faces_per_second:.0f} faces/s, {left / 60:.0f} min left",
            flush=True,
        )
        log(epoch)


def _log_epoch(store: tracking.Tracking, run_id: str) -> Any:
    def log(epoch: Epoch) -> None:
        values: Mapping[str, float] = {k: v for k, v in asdict(epoch).items() if k != "epoch"}
        tracking.log_steps(store, run_id, [(epoch.epoch, values)])

    return log


if __name__ == "__main__":
    sys.exit(main(pretrain, Pretrain, prog="python -m study.pretrain", description=__doc__))
