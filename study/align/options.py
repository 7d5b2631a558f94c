"""What aligning is asked."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Annotated

import tyro

from study.cli.about import About
from study.cli.options import Joining
from study.cli.words import Place, Word
from trainables.fields import Amount, Count, Positive, Range, Whole
from trainables.names import unknown

NAMES = ("fgnet", "utkface", "aaf", "imdb", "wiki", "table", "people", "strangers")
"""Of study.align.datasets.DATASETS, in its order; the last two are built in."""

BUILT_IN = ("people", "strangers")

ABOUT = About(
    "photos to aligned faces: find 68 landmarks, normalise size, tilt and position, write a table",
    (
        ("The synthetic people and strangers", "python -m study.align"),
        ("Your own FG-NET", "python -m study.align fgnet --root FGNET --out runs/fgnet --landmarker dlib"),
        ("Any photos", "python -m study.align table --root PHOTOS --labels labels.csv --landmarker dlib"),
    ),
    ("dataset", "root", "out", "landmarker", "labels"),
    """A photo that cannot be used is listed with its reason in OUT/rejects/, and the run continues. After an
    interruption the same command continues where it stopped. FAN's weights are not downloaded; without them choose
    --landmarker dlib.""",
    "docs/align.md",
)


@dataclass(frozen=True)
class Options:
    """Options of `python -m study.align`."""

    dataset: Annotated[str, tyro.conf.Positional, Word("DATASET")] = ""
    """fgnet, utkface, aaf, imdb, wiki, table (your photos, by --labels), people or strangers (the last two are built
    in). Without one: both of these."""
    root: tuple[Place, ...] = ()
    """Folder of the dataset, local or a URI such as s3://bucket/fgnet; its own layout is read as it is. Several folders
    become one table, such as the parts of an archive."""
    labels: Annotated[str, Word("FILE")] = ""
    """With `table`: the file that says who is how old, a row a photo: CSV, TSV, Parquet or JSON lines."""
    columns: tuple[Annotated[str, Word("NAME=COLUMN")], ...] = ()
    """With `table`: columns that have other names in it, such as photo=filename age=years person=who. Known are photo,
    age (or birth and taken, dates), person, sex, group, split and box (left top right bottom, in pixels)."""
    splits: tuple[str, ...] = ()
    """With `table`: the splits to take, such as train val. Without it: every row."""
    name: str = ""
    """With `table`: the dataset's name in tables and results. Without it: the name of the (first) folder."""
    out: Place = ""
    """Folder for the faces table, local or a URI; without it, runs/<dataset>, or runs/synthetic/<dataset>."""
    follow_links: bool = False
    """Read photos that are links to outside the root, as git-annex, DVC and the Hugging Face cache keep them."""
    landmarker: str = ""
    """fan (face-alignment, the paper's), dlib (packages only, no download) or pts (points that come with the
    photos). Without it: fan for your own data, dlib for the synthetic people."""
    size: Annotated[int, Range(16, 4096)] = 256
    """Side of an aligned face in pixels. Training makes it smaller, so choose a large one."""
    coverage: Annotated[float, Range(0.5, 4)] = 1.0
    """Side of the square that is cut; 1: 2.33 times the distance between the eyes, from brows to chin. 1.65 takes in
    hair and chin. Where a photo ends before the square does, its border is mirrored. A network is pretrained, tested
    and used with one coverage."""
    quality: Annotated[int, Range(1, 100)] = 95
    """JPEG quality of the stored faces."""
    device: str = "cpu"
    """Where fan runs: cpu, cuda or cuda:0."""
    dtype: str = "float32"
    """What fan computes in: float32, or bfloat16 or float16 on a GPU."""
    workers: Whole = 0
    """Actors that hold a landmark model; 0: as many as the cluster's CPUs (or GPUs) have room for."""
    cpus_per_worker: Positive = 1.0
    """CPUs of each actor; it uses as many threads."""
    gpus_per_worker: Amount = 0.0
    """GPUs of each actor; 0.25 puts four on one GPU, which then computes while others decode photos."""
    shard: Count = 256
    """Photos in each file of the table. An interrupted run continues after the last whole file."""
    force: bool = False
    """Discard the table at --out where it was made with other options or from another folder."""
    track: bool = True
    """Leave MLflow (mlruns/, or MLFLOW_TRACKING_URI) without the table's counts."""
    ray: Annotated[Joining, tyro.conf.arg(name="")] = field(default_factory=Joining)


def refuse(options: Options) -> None:
    """Raise ValueError where the dataset is unknown, or lacks what it needs; reads nothing."""
    if not options.dataset:
        if options.root or options.out:
            raise ValueError(f"--root and --out need a dataset before them: one of {', '.join(NAMES)}")
        return
    if options.dataset not in NAMES:
        raise unknown("dataset", options.dataset, NAMES)
    if not options.root and options.dataset not in BUILT_IN:
        raise ValueError(f"{options.dataset} needs --root, the folder that holds its photos")
