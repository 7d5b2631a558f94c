"""Pretrain backbones on faces of many people with Ray Train; a sweep and LOPO start from what this writes.

Each backbone becomes one checkpoint folder OUT/<backbone>/ (model.safetensors, trial.json). A finished one is not
trained again; an interrupted one goes on from its last snapshot, and ends as if undisturbed: type the same command
again. Faces are streamed from the tables (Ray Data) and never all in memory. Several workers train as one with the
same --batch would; but batch norm takes its statistics from each worker's own share (see --batch-norm).
"""

from __future__ import annotations

import json
import queue
import sys
import threading
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Annotated, Any, Literal

import tyro

from study.artifacts.environments import differences
from study.cli.options import STRANGERS, Allowed, Training, faces_or_synthetic, home, is_synthetic
from study.cli.run import message
from study.cluster.start import Joining
from study.files.locks import hold
from study.files.storage import write_json
from study.folds import dev_split
from study.pretrain.ray_train import Room, find_room, forget, train_with_ray
from study.process import ends
from study.starts import Start, read_start
from study.tracking import runs as tracking
from trainables import code_version
from trainables.backbones import BACKBONES, find_backbone
from trainables.checkpoints import Checkpoint, load_checkpoint, save_checkpoint
from trainables.config import TrialConfig, fingerprint
from trainables.device import resolve_precision
from trainables.faces.index import FacesIndex, index_faces
from trainables.faces.stream import make_tables
from trainables.fields import Count, Part, Positive
from trainables.fitting import Epoch, build_net, has_batch_norm
from trainables.folders import standing
from trainables.names import folder_name
from trainables.pretraining import Work
from trainables.provenance import environment, merge_photos, photos_of


@dataclass(frozen=True)
class Pretrain:
    """Options of study.pretrain."""

    training: Annotated[Training, tyro.conf.arg(name="")] = field(default_factory=Training)
    backbone: tuple[str, ...] = ()
    """Networks to pretrain; `all` for every one of the study. One that fails does not stop the others. Default: the
    config's (efficientnet_b0), or that of --trial."""
    faces: tuple[str, ...] = ()
    """Faces tables (OUT of study.align), trained on together: folders or URIs (s3://...) that every node reaches.
    Default: the synthetic strangers."""
    weights: str | None = None
    """Start from: random, imagenet, a weights file, or a checkpoint folder. Default: random, or what --trial says."""
    allowed: Annotated[Allowed, tyro.conf.arg(name="")] = field(default_factory=Allowed)
    out: Path | None = None
    """Folder for a checkpoint folder a backbone. Default: runs/pretrained, or runs/synthetic/pretrained of synthetic
    faces."""
    dev_share: Part = 0.1
    """Share of people (of photos where people are unknown) kept to measure on, never trained on."""
    window: Count = 4096
    """Faces that are shuffled together (docs/pretraining.md). Part of what decides the result."""
    workers: Count = 1
    """Data-parallel processes; the global batch is divided among them."""
    cpus_per_worker: int | None = None
    """Cores of a worker, its feeders' included. Default: this machine's cores divided among the workers; 4 on a cluster
    that was joined (--address, RAY_ADDRESS), since it may still be growing."""
    feeders: Count = 1
    """How many of a worker's cores decode and augment; the others train. With one core both share it."""
    gpus_per_worker: float = 0.0
    batch_norm: Literal["worker", "global"] = "worker"
    """Over which faces batch norm takes its statistics: each worker's share of the batch, or the whole batch
    (SyncBatchNorm, on GPUs only). Without batch norm (ViT, Swin, ConvNeXt) two workers give what one does."""
    at_once: Count | None = None
    """Backbones trained side by side. Default: as many as the cluster has room for, when it is full grown."""
    checkpoint_minutes: Positive = 5.0
    """A snapshot is written so often, and after each epoch: what a kill costs at most."""
    storage: str | None = None
    """Where Ray Train keeps what an interrupted training goes on from: a folder or URI that all nodes reach (s3://...).
    Default: OUT/.train, right for one machine."""
    force: bool = False
    """Discard the checkpoints that are there, and train again."""
    ray: Annotated[Joining, tyro.conf.arg(name="")] = field(default_factory=Joining)


def pretrain(options: Pretrain) -> int:
    """Pretrain each backbone; returns the exit status."""
    asked = options.backbone or (options.training.trial_config().backbone,)
    names = list(BACKBONES) if "all" in asked else list(dict.fromkeys(asked))
    for name in names:
        find_backbone(name)
    if options.batch_norm == "global" and not options.gpus_per_worker:
        raise ValueError("--batch-norm global needs GPUs (--gpus-per-worker): there is no SyncBatchNorm on processors")
    common = options.training.trial_config(weights=options.weights)
    if common.frozen:
        raise ValueError(
            "pretraining trains the whole network: give --frozen to study.lopo or a sweep, and here --frozen 0 where "
            "the trial file freezes stages"
        )
    if common.batch % options.workers:
        raise ValueError(
            f"--batch {common.batch} does not divide among --workers {options.workers}: expected a multiple"
        )
    places = options.faces or [str(place) for place in faces_or_synthetic((), STRANGERS)]
    print("Reading where the faces lie ...", flush=True)
    index = index_faces(places)
    dev_split(index, share=options.dev_share, seed=common.seed)  # too few faces are said here, before Ray starts
    out = options.out or home(index.datasets) / "pretrained"
    jobs: list[Job] = []
    failed: list[tuple[str, str]] = []
    for name in names:
        try:
            config = options.training.trial_config(backbone=name, weights=options.weights)
            jobs.append(make_job(config, read_start(name, config.weights), index, options, out))
        except (ValueError, OSError) as error:
            if len(names) == 1:
                raise
            failed.append((name, str(error)))
    with ExitStack() as held:
        for job in jobs:
            held.enter_context(hold(out, job.folder.name))
        failed += pretrain_all(jobs, index, options, alone=len(names) == 1)
    if failed:
        for name, why in failed:
            print(f"{name} failed: {why}", file=sys.stderr)
        print(f"{len(failed)} of {len(names)} failed; the same command tries them again", file=sys.stderr)
        return 1
    print(f"Checkpoints: {', '.join(str(job.folder) for job in jobs)}")
    print(f"Next: {next_command(index, options)}")
    return 0


def next_command(index: FacesIndex, options: Pretrain) -> str:
    """The sweep that starts from these checkpoints, on the faces that belong to them; it works as typed."""
    where = f" --pretrained {options.out}" if options.out else ""
    if is_synthetic(index.datasets):
        return f"python -m study.sweep{where}"
    tables = [place for place in sorted(Path("runs").glob("fgnet*")) if (place / "faces").is_dir()]
    if not tables:
        return "python -m study.align --help   (a table with people, such as FG-NET's, is what a sweep runs on)"
    return f"python -m study.sweep --faces {tables[0]}{where}"


@dataclass(frozen=True)
class Job:
    """One training: made_from is all that decides its result, save what may move the last digits; key is its hash."""

    config: TrialConfig
    start: Start
    folder: Path
    made_from: Mapping[str, Any]

    @property
    def key(self) -> str:
        return fingerprint(self.made_from)


def make_job(config: TrialConfig, start: Start, index: FacesIndex, options: Pretrain, out: Path) -> Job:
    """The job of one backbone. Raises ValueError where the network cannot be built, or must not start there."""
    check_synthetic(start, index.datasets, options.allowed)
    device = "cuda" if options.gpus_per_worker else "cpu"
    made_from: dict[str, Any] = {
        "trial": {**config.to_json(), "weights": start.digest},
        "faces": index.digest,
        "dev_share": options.dev_share,
        "window": options.window,
        "code": code_version(),
        "device": device,
        "precision": resolve_precision(config, device),
    }
    if has_batch_norm(config):  # else the number of workers does not matter
        alone = options.workers == 1 or options.batch_norm == "global"
        made_from["batch_norm_faces"] = config.batch if alone else config.batch // options.workers
    return Job(config, start, out / folder_name(config.backbone), made_from)


def check_synthetic(start: Start, datasets: Sequence[str], allowed: Allowed) -> None:
    """ValueError where a checkpoint of synthetic faces would be trained on with real ones, unless it is allowed."""
    if is_synthetic(start.datasets) and not is_synthetic(datasets) and not allowed.allow_synthetic:
        raise ValueError(
            f"{start.weights} was pretrained on synthetic faces ({start.what}), and these are real: start from "
            "--weights random or imagenet, or say --allow-synthetic"
        )


def pretrain_all(jobs: list[Job], index: FacesIndex, options: Pretrain, *, alone: bool) -> list[tuple[str, str]]:
    """Train what is missing, side by side as the cluster has room; (backbone, why) of what failed.

    The failure of one that was asked for alone is raised.
    """
    failed: list[tuple[str, str]] = []
    missing = []
    for job in jobs:
        try:
            if not is_there(job, options):
                missing.append(job)
        except ValueError as error:
            if alone:
                raise
            failed.append((job.config.backbone, str(error)))
    store = tracking.connect()  # even where nothing is missing: it sends what waits from an earlier command
    if not missing:
        return failed
    options.ray.start(quiet_core=True)
    room = find_room(options.workers, options.cpus_per_worker, options.gpus_per_worker, joined=options.ray.joins)
    waiting: queue.SimpleQueue[Job] = queue.SimpleQueue()
    for job in missing:
        waiting.put(job)

    raised: list[Exception] = []

    def work() -> None:
        while not ends.interrupted():
            try:
                job = waiting.get_nowait()
            except queue.Empty:
                return
            try:
                pretrain_one(job, index, room, options, store)
            except Exception as error:
                raised.append(error)
                failed.append((job.config.backbone, message(error) or f"{type(error).__name__}: {error}"))

    # Called in the main thread, Ray Train takes Ctrl-C for itself. Daemons, so that an interrupted command can leave
    threads = [threading.Thread(target=work, daemon=True) for _ in range(options.at_once or room.at_once)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if raised and alone:
        raise raised[0]
    return sorted(failed)


def is_there(job: Job, options: Pretrain) -> bool:
    """Whether the backbone's checkpoint is finished. Raises ValueError where another one lies in its place."""
    folder = job.folder
    if options.force or not standing(folder).is_dir():
        return False
    about = load_checkpoint(folder).about
    if about.get("fingerprint") != job.key:
        before = about.get("made_from", {})
        changed = sorted(name for name in job.made_from if before.get(name) != job.made_from[name])
        raise ValueError(
            f"{folder} holds a checkpoint made otherwise (other {', '.join(changed)}; it learned from "
            f"{about.get('trained_on', 'unknown faces')}): give another --out, or --force to replace it"
        )
    print(f"{job.config.backbone}: already there at {folder}, dev MAE {about['dev_mae']:.2f}; --force trains it again")
    return True


def pretrain_one(job: Job, index: FacesIndex, room: Room, options: Pretrain, store: tracking.Tracking) -> Path:
    """Train one backbone and write its checkpoint folder."""
    config, folder, key = job.config, job.folder, job.key
    build_net(config)  # a size or weights that do not fit are said here, once, and not by workers again and again
    split = dev_split(index, share=options.dev_share, seed=config.seed)
    tables = make_tables(index, split.train, split.test, config, window=options.window)
    seen = f"{len(split.train)} faces of {', '.join(index.datasets)}"
    photos = photos_of(index, split.train)
    about: dict[str, Any] = {
        "fingerprint": key,
        "made_from": dict(job.made_from),
        "trained_on": f"{seen}, {config.epochs} epochs at {config.px} px, from {_from(job.start)}",
        "datasets": sorted({*index.datasets, *job.start.datasets}),
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
    storage = options.storage or str(folder.parent.resolve() / ".train")
    if options.force:
        if forget(storage, key):
            print(f"Discarding the snapshots of an interrupted training in {storage}/{key}", flush=True)
        if standing(folder).is_dir():
            print(f"Discarding the checkpoint at {folder}, as soon as the new one is there", flush=True)
    began = _continued(folder.parent / ".train" / f"{key}.json", {**environment("cpu"), "threads": str(room.cpus)})
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
    about["environment"] = json.loads(began.read_text())
    known = None if job.start.photos is None else merge_photos([job.start.photos, photos])
    save_checkpoint(folder, Checkpoint(snapshot.average or snapshot.net, config, about, known))
    tracking.log_json(store, run_id, "trial.json", {"trial": config.to_json(), "about": about})
    tracking.finish(store, run_id, metrics={"dev_mae": last.validation_mae}, tags={tracking.COMPLETE: "yes"})
    forget(storage, key)  # only now: until here a rerun goes on from it
    began.unlink(missing_ok=True)
    print(
        f"{config.backbone}: dev MAE {last.validation_mae:.2f} years on {len(split.test)} faces; checkpoint at {folder}"
    )
    return folder


def _from(start: Start) -> str:
    """Where a training started, in words that hold no path: two that started alike say the same."""
    return f"{start.weights} weights" if start.weights in ("random", "imagenet") else f"({start.what})"


def _continued(file: Path, now: Mapping[str, str]) -> Path:
    """The record of where an unfinished training began; a line where it goes on in another environment."""
    then = json.loads(file.read_text()) if file.is_file() else now
    if told := differences(then, now):
        print(f"An unfinished training goes on in another environment: {told}", flush=True)
    write_json(file, then)
    return file


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
