"""Photos to aligned faces: find 68 landmarks, normalise size, tilt and position, and write a faces table.

    python -m study.align                                       the synthetic people and strangers
    python -m study.align fgnet --root DIR --out runs/fgnet     your own FG-NET

A photo that cannot be used is set aside with its reason in OUT/rejects/ and the run goes on. The same command
continues where it was stopped. FAN's weights are not downloaded; without them choose --landmarker dlib.
"""

from __future__ import annotations

import hashlib
import json
import os
import sys
import tempfile
from collections.abc import Mapping
from contextlib import nullcontext
from dataclasses import asdict, dataclass, field, replace
from itertools import islice
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import tyro
from tqdm import tqdm

from study.align import funnel
from study.align import ray_data as pipeline
from study.align.datasets import DATASETS, Dataset
from study.align.shards import (
    Shard,
    claim,
    claim_source,
    finish,
    note_environment,
    plan_shards,
    take_stock,
    write_shard,
)
from study.cli.options import home
from study.cli.run import refuse_ignored
from study.cluster.placing import Running, Unit, check_room, explaining
from study.cluster.start import Joining
from study.files.locks import hold
from study.files.storage import Folder, open_folder
from study.landmarks.fan import DTYPES, check_device
from study.landmarks.landmarkers import LANDMARKERS, weights_digest
from study.landmarks.photos import Photo, Reason, Reject
from study.landmarks.search import TRIES, Runtime
from study.landmarks.warp import TEMPLATE, TEMPLATE_NAME, Alignment
from trainables.fields import Count, Range, Whole
from trainables.names import unknown

READER = Unit("task that reads photos", 1, 0, "--address")
"""What hashing takes of the cluster, whatever the options say."""

BUILT_IN_LINE = "synthetic people, made by this project: results mean nothing about real faces"


@dataclass(frozen=True)
class Options:
    """Options of `python -m study.align`."""

    dataset: Annotated[str, tyro.conf.Positional] = ""
    """fgnet, utkface, imdb, wiki, people or strangers (the last two are built in). Without one: both built-in ones."""
    root: str = ""
    """Folder of the dataset, local or a URI such as s3://bucket/fgnet; its own layout is read as it is."""
    out: str = ""
    """Folder for the faces table, local or a URI; without it, runs/<dataset>, or runs/synthetic/<dataset>."""
    follow_links: bool = False
    """Read photos that are links to outside the root, as git-annex, DVC and the Hugging Face cache keep them."""
    landmarker: str = ""
    """fan (face-alignment, the paper's), dlib (packages only, no download) or pts (points that come with the
    photos). Without it: fan for your own data, dlib for the synthetic people."""
    size: Annotated[int, Range(16, 4096)] = 256
    """Side of an aligned face in pixels; training resizes, so be generous here."""
    quality: Annotated[int, Range(1, 100)] = 95
    """JPEG quality of the stored faces."""
    device: str = "cpu"
    """Where fan runs: cpu, cuda or cuda:0."""
    dtype: str = "float32"
    """Numbers fan computes in: float32, or bfloat16 and float16 for a GPU."""
    workers: Whole = 0
    """Actors that hold a landmark model; 0 stands for as many as the cluster's CPUs (or GPUs) carry."""
    cpus_per_worker: float = 1.0
    """CPUs each such actor takes; it uses as many threads."""
    gpus_per_worker: float = 0.0
    """GPUs each such actor takes; 0.25 puts four on one GPU, so that it works while photos are decoded."""
    shard: Count = 256
    """Photos a shard: the unit of files and of resuming."""
    force: bool = False
    """Discard a table at --out that was made with other options or from another folder."""
    track: bool = True
    """Log the closing count to MLflow (mlruns/, or MLFLOW_TRACKING_URI)."""
    ray: Annotated[Joining, tyro.conf.arg(name="")] = field(default_factory=Joining)


def align(options: Options) -> int:
    """Align one dataset, or the built-in ones; 1 where not a single face came out, else 0."""
    if not options.dataset:
        if options.root or options.out:
            raise ValueError(f"--root and --out need a dataset before them: one of {', '.join(DATASETS)}")
        return max(align(replace(options, dataset=name)) for name, d in DATASETS.items() if d.builtin)
    if options.dataset not in DATASETS:
        raise unknown("dataset", options.dataset, DATASETS)
    dataset = DATASETS[options.dataset]
    landmarker = options.landmarker or ("dlib" if dataset.builtin else "fan")
    if landmarker not in LANDMARKERS:
        raise unknown("landmarker", landmarker, LANDMARKERS)
    if landmarker == "pts" and dataset.points is None:
        raise ValueError(f"{dataset.name} comes without points files: choose --landmarker fan or dlib")
    if options.shard < 1 or options.workers < 0 or options.cpus_per_worker <= 0 or options.gpus_per_worker < 0:
        raise ValueError(f"--shard must be >= 1, --workers >= 0, --cpus-per-worker > 0, got {options}")
    if landmarker == "fan":
        check_runtime(options)
    else:
        refuse_ignored(options, ["device", "dtype"], why=f"with --landmarker {landmarker}")
    alignment = Alignment(size=options.size, quality=options.quality)
    root, out = _root(dataset, options), open_folder(options.out or home([dataset.name]) / dataset.name)
    about = {
        "dataset": dataset.name,
        "landmarker": landmarker,
        "weights": weights_digest(landmarker),
        "device": options.device.split(":")[0] if landmarker == "fan" else "cpu",
        "dtype": options.dtype if landmarker == "fan" else "float32",
        "template": TEMPLATE_NAME,
        "points": TEMPLATE.tolist(),
        **asdict(alignment),
        "tries": [attempt.name for attempt in TRIES] if landmarker != "pts" else [],
        "shard": options.shard,
        "version": pipeline.code_version(),
    }
    if dataset.builtin:
        print(BUILT_IN_LINE)
    photos, rejects = list_photos(dataset, root)
    # An object store has no locks: two commands at once on one URI are not noticed
    with hold(out.local) if out.local else nullcontext():
        claim(out, about, force=options.force)
        options.ray.start(quiet_core=True)
        workers, running = _workers(options), Running()
        pipeline.configure()
        with explaining(READER, running.count, joined=options.ray.joins):
            listing, unusable = hash_listing(photos, root, running)
        shards = plan_shards(listing, about, photos=options.shard)
        claim_source(out, str(root), listing, shards, force=options.force)
        note_environment(out, pipeline.environment(landmarker))
        missing = take_stock(out, shards, about, [*rejects, *unusable])
        with explaining(_unit(options), running.count, joined=options.ray.joins):
            run_shards(
                missing, root, out, about, options,
                dataset=dataset, alignment=alignment, landmarker=landmarker, workers=workers, running=running,
            )  # fmt: skip
        return report(out, about, read=len(photos) + len(rejects), track=options.track)


def check_runtime(options: Options) -> None:
    """ValueError where fan cannot run as asked, before any photo is read."""
    if options.dtype not in DTYPES:
        raise unknown("dtype", options.dtype, DTYPES)
    if options.device.startswith("cuda") and not options.gpus_per_worker:
        raise ValueError(f"--device {options.device} needs --gpus-per-worker, such as 1 or 0.25: Ray hands out GPUs")
    if not options.ray.joins:  # a cluster's workers may have what this machine lacks
        check_device(options.device)


def list_photos(dataset: Dataset, root: Folder) -> tuple[pa.Table, list[Reject]]:
    """The dataset's photos as a LISTING sorted by name, and those that its parser sets aside."""
    parts, rejects = [pipeline.LISTING.empty_table()], []
    try:
        # Part by part: half a million Python objects at once would stay in the driver's memory for the whole run
        found = iter(dataset.photos(root))
        while entries := list(islice(found, 4096)):
            entries = [_in_utf8(entry) for entry in entries]
            photos = [entry for entry in entries if isinstance(entry, Photo)]
            rejects += [entry for entry in entries if isinstance(entry, Reject)]
            columns = [
                [p.path for p in photos],
                [p.person for p in photos],
                [p.age for p in photos],
                [p.points for p in photos],
            ]
            parts.append(pa.table(columns, schema=pipeline.LISTING))
    except (ValueError, FileNotFoundError) as error:
        raise type(error)(f"{error}{_looks_like(root, dataset)}") from None
    return pa.concat_tables(parts).sort_by("photo"), sorted(rejects, key=lambda reject: reject.path)


def _in_utf8(entry: Photo | Reject) -> Photo | Reject:
    """The entry; where its path is no UTF-8, as on old disks, a Reject: neither Arrow nor Parquet can hold it."""
    try:
        entry.path.encode()
        return entry
    except UnicodeEncodeError:
        shown = os.fsencode(entry.path).decode("utf-8", "backslashreplace")
        return Reject(shown, Reason.BAD_NAME, "its name is no UTF-8: rename it, such as with convmv")


def hash_listing(listing: pa.Table, root: Folder, running: Running | None = None) -> tuple[pa.Table, list[Reject]]:
    """The photos that can be read and are no duplicates, with their sha256 and size; and those that are not,
    as rejects.

    Over the whole dataset: of byte-identical photos with one age the first by name is kept; where their ages
    conflict nobody knows the right one, and all are rejected.
    """
    batches = [pipeline.HASHED.empty_table()]
    with _bar(listing.num_rows, "reading") as bar:
        for batch in pipeline.hash_photos(listing, root, running):
            batches.append(batch.select(pipeline.HASHED.names).cast(pipeline.HASHED))
            bar.update(batch.num_rows)
    hashed = pa.concat_tables(batches).sort_by("photo")
    counts = pc.value_counts(hashed["sha256"].drop_null())
    repeated = counts.field("values").filter(pc.greater(counts.field("counts"), 1))
    # Only these become Python objects: of half a million photos nearly all are neither
    suspects = pc.or_(pc.is_null(hashed["sha256"]), pc.is_in(hashed["sha256"], value_set=repeated))
    keep = pc.invert(suspects).to_numpy(zero_copy_only=False).copy()
    rejects: list[Reject] = []
    groups: dict[str, list[tuple[int, dict[str, Any]]]] = {}
    for number, row in zip(np.flatnonzero(~keep).tolist(), hashed.filter(suspects).to_pylist(), strict=True):
        if row["sha256"] is None:
            rejects.append(Reject(row["photo"], Reason(row["reason"]), row["detail"]))
        else:
            groups.setdefault(row["sha256"], []).append((number, row))
    for group in groups.values():
        first, *rest = (row["photo"] for _, row in group)
        if len({row["age"] for _, row in group}) > 1:
            for number, row in group:
                others = ", ".join(f"{other['photo']} ({other['age']})" for at, other in group if at != number)
                rejects.append(Reject(row["photo"], Reason.CONFLICTING_AGES, f"same bytes as {others}"))
            continue
        keep[group[0][0]] = True
        for name in rest:
            rejects.append(Reject(name, Reason.DUPLICATE, f"same bytes and age as {first}, which is kept"))
    return hashed.filter(pa.array(keep)).select([*pipeline.LISTING.names, "sha256", "bytes"]), rejects


def run_shards(
    shards: list[Shard],
    root: Folder,
    out: Folder,
    about: dict[str, Any],
    options: Options,
    *,
    dataset: Dataset,
    alignment: Alignment,
    landmarker: str,
    workers: pipeline.Workers,
    running: Running,
) -> None:
    """Align the photos of the shards and write each shard when its last photo is through."""
    if not shards:
        return
    todo = pa.concat_tables(
        [
            shard.photos.append_column("shard", pa.array([number] * shard.photos.num_rows, pa.int32()))
            for number, shard in enumerate(shards)
        ]
    )
    rows = pipeline.align_photos(
        todo,
        root,
        dataset=dataset.name,
        landmarker=landmarker,
        runtime=Runtime(options.device, threads=max(1, int(options.cpus_per_worker)), dtype=options.dtype),
        scheme=dataset.points,
        alignment=alignment,
        workers=workers,
        running=running,
    )
    number, waiting = 0, pa.table({}, schema=None)
    with _bar(todo.num_rows, f"aligning {dataset.name}") as bar:
        for batch in rows:
            waiting = pa.concat_tables([waiting, batch]) if waiting.num_columns else batch
            bar.update(batch.num_rows)
            while number < len(shards) and waiting.num_rows >= shards[number].photos.num_rows:
                full = shards[number].photos.num_rows
                write_shard(out, shards[number], waiting.slice(0, full), about)
                number, waiting = number + 1, waiting.slice(full)


def report(out: Folder, about: dict[str, Any], *, read: int, track: bool) -> int:
    """Print the funnel, write it to OUT and log it to MLflow, and mark the table complete.

    0, or ValueError where not one face was aligned.
    """
    counts = finish(out, about, read=read)
    aligned = counts.pop("aligned", 0)
    if read != aligned + counts.total():
        raise RuntimeError(f"{read} photos were read, but {aligned} + {counts.total()} accounted for")
    stages = funnel.funnel(counts, read=read)
    names = {"dataset": about["dataset"], "landmarker": about["landmarker"]}
    files = {
        "funnel.md": funnel.as_markdown(stages, **names).encode(),
        "funnel.png": funnel.as_png(stages, **names),
    }
    for name, data in files.items():
        out.write(name, data)
    print(f"{about['dataset']}, landmarker {about['landmarker']}, {about['size']} px -> {out}")
    print("\n".join(funnel.as_lines(stages, dataset=about["dataset"])))
    print(f"read {read:,}, aligned {aligned:,}, rejected {counts.total():,}")
    if track:
        log_funnel(out, about, stages, counts, files)
    if not aligned:
        raise ValueError(f"none of the {read:,} photos gave a face; {out}/rejects says why for each")
    return 0


def log_funnel(
    out: Folder,
    about: dict[str, Any],
    stages: list[funnel.Stage],
    counts: Mapping[str, int],
    files: Mapping[str, bytes],
) -> None:
    """One MLflow run a table: the funnel as metrics, its picture and table as artifacts. A rerun updates it."""
    from study.tracking import runs as tracking

    store = tracking.connect()
    key = hashlib.sha256(json.dumps([str(out), about], sort_keys=True).encode()).hexdigest()[:16]
    run_id = tracking.find_or_start(
        store,
        key=f"align-{key}",
        name=f"align {about['dataset']} {about['landmarker']}",
        stage="align",
        params={name: value for name, value in about.items() if name not in ("points", "tries")} | {"out": str(out)},
    )
    with tempfile.TemporaryDirectory() as folder:
        for name, data in files.items():
            (Path(folder) / name).write_bytes(data)
        tracking.log_files(store, run_id, [Path(folder) / name for name in files])
    metrics = {f"left {stage.name}": float(stage.left) for stage in stages}
    metrics |= {f"rejected {reason}": float(count) for reason, count in counts.items()}
    tracking.finish(store, run_id, metrics=metrics, tags={tracking.COMPLETE: "yes"})


def _root(dataset: Dataset, options: Options) -> Folder:
    if options.root:
        root = open_folder(options.root)
    elif dataset.builtin:
        root = open_folder(dataset.builtin())
    else:
        raise ValueError(f"{dataset.name} needs --root, the folder that holds its photos")
    if not root.is_folder():
        raise FileNotFoundError(f"no folder {root}; --root is where {dataset.what.split(':')[0]} lies")
    return replace(root, follow_links=options.follow_links)


def _looks_like(root: Folder, dataset: Dataset) -> str:
    """A hint where the folder is laid out as another dataset."""
    for other in DATASETS.values():
        if other.photos is not dataset.photos:
            try:
                next(iter(other.photos(root)))
            except (ValueError, FileNotFoundError, StopIteration):
                continue
            return f" It looks like {other.name}: python -m study.align {other.name}"
    return ""


def _unit(options: Options) -> Unit:
    """What a worker takes of the cluster."""
    return Unit("worker", options.cpus_per_worker, options.gpus_per_worker, "--cpus-per-worker and --gpus-per-worker")


def _workers(options: Options) -> pipeline.Workers:
    """The workers asked for, or as many as there is room for. Raises ValueError where there is none."""
    together = max(options.workers, 1)
    count = None if options.workers else "--workers"
    most = check_room(_unit(options), together=together, joined=options.ray.joins, count=count)
    return pipeline.Workers(options.workers or most, options.cpus_per_worker, options.gpus_per_worker)


def _bar(total: int, what: str) -> tqdm:
    # In a log file a bar is a line now and then, not ten a second.
    seconds = 0.1 if sys.stderr.isatty() else 10.0
    return tqdm(total=total, desc=what, unit=" photos", mininterval=seconds, maxinterval=max(seconds, 10.0))
