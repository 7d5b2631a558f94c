"""What aligning is about to do: the dataset, where it lies and goes, and all that decides the faces. Refuses early."""

from __future__ import annotations

import platform
from dataclasses import dataclass, replace
from functools import cache, partial
from importlib.metadata import version
from pathlib import Path

from study import landmarks
from study.align.datasets import DATASETS, Dataset
from study.align.datasets.table import Source
from study.align.datasets.table import photos as table_photos
from study.align.options import Options, refuse
from study.align.roots import common_root, in_parts
from study.artifacts.aligned import Recipe
from study.cli.options import home, refuse_ignored
from study.files.storage import Folder, open_folder
from study.landmarks.fan import DTYPES, check_device
from study.landmarks.landmarkers import LANDMARKERS, weights_digest
from study.landmarks.search import TRIES
from study.landmarks.warp import TEMPLATE_NAME, template
from study.plain import slug
from trainables import source_digest
from trainables.names import unknown


@dataclass(frozen=True)
class Plan:
    """One dataset to be aligned from `root` into `out`, and the recipe that its faces are made by."""

    options: Options
    dataset: Dataset
    root: Folder
    out: Folder
    recipe: Recipe


def make_plan(options: Options) -> Plan:
    """The plan for one dataset. Raises ValueError or FileNotFoundError where it cannot be done."""
    refuse(options)
    dataset, root = find_dataset(DATASETS[options.dataset], options)
    landmarker = options.landmarker or ("dlib" if dataset.builtin else "fan")
    if landmarker not in LANDMARKERS:
        raise unknown("landmarker", landmarker, LANDMARKERS)
    if landmarker == "pts" and dataset.points is None:
        raise ValueError(f"{dataset.name} comes without points files: choose --landmarker fan or dlib")
    by_fan = landmarker == "fan"
    if by_fan:
        check_runtime(options)
    else:
        refuse_ignored(options, ["device", "dtype"], why=f"with --landmarker {landmarker}")
    out = open_folder(options.out or home([dataset.name]) / dataset.name)
    recipe = Recipe(
        dataset=dataset.name,
        landmarker=landmarker,
        weights=weights_digest(landmarker),
        device=options.device.split(":")[0] if by_fan else "cpu",
        dtype=options.dtype if by_fan else "float32",
        template=TEMPLATE_NAME,
        points=tuple(map(tuple, template(options.coverage).tolist())),
        coverage=options.coverage,
        size=options.size,
        quality=options.quality,
        tries=() if landmarker == "pts" else tuple(attempt.name for attempt in TRIES),
        shard=options.shard,
        version=code_version(),
    )
    return Plan(options, dataset, root, out, recipe)


def check_runtime(options: Options) -> None:
    """Raise ValueError where fan cannot run as asked, before any photo is read."""
    if options.dtype not in DTYPES:
        raise unknown("dtype", options.dtype, DTYPES)
    if options.device.startswith("cuda") and not options.gpus_per_worker:
        raise ValueError(f"--device {options.device} needs --gpus-per-worker, such as 1 or 0.25: Ray hands out GPUs")
    if not options.ray.joins:  # a cluster's workers may have what this machine lacks
        check_device(options.device)


def find_dataset(dataset: Dataset, options: Options) -> tuple[Dataset, Folder]:
    """The dataset as it is asked for, and the folder of its photos. Raises ValueError or FileNotFoundError."""
    folders = [open_folder(each) for each in options.root or (str(dataset.builtin),)]
    for folder in folders:
        if not folder.is_folder():
            raise FileNotFoundError(f"no folder {folder}; --root is where {dataset.what.split(':')[0]} is")
    root, parts = common_root(folders)
    if dataset.name == "table":
        dataset = _by_labels(dataset, options, parts, first=folders[0])
    else:
        refuse_ignored(options, ["labels", "columns", "splits", "name"], why=f"with {dataset.name}")
        dataset = replace(dataset, photos=in_parts(dataset.photos, parts))
    return dataset, replace(root, follow_links=options.follow_links)


def _by_labels(dataset: Dataset, options: Options, parts: tuple[str, ...], *, first: Folder) -> Dataset:
    """The dataset of --labels."""
    columns = {}
    for pair in options.columns:
        ours, equals, theirs = pair.partition("=")
        if not equals or not theirs:
            raise ValueError(f"--columns {pair}: expected NAME=COLUMN, such as photo=filename")
        columns[ours] = theirs
    if not options.labels:
        raise ValueError("table needs --labels, the file that says who is how old")
    name = options.name or slug(first.name.rstrip("/").rpartition("/")[2])
    if name != slug(name):
        raise ValueError(f"--name {name!r}: expected letters, digits, - and _, such as {slug(name)!r}")
    if name in DATASETS:
        raise ValueError(f"{name!r} is the name of a known dataset: give another one with --name")
    source = Source(options.labels, columns, options.splits, parts)
    return replace(dataset, name=name, photos=partial(table_photos, source=source))


@cache
def code_version() -> str:
    """12 hex digits of the code that finds and cuts a face: study.landmarks, and how photos are put together here."""
    here = Path(__file__).parent
    return source_digest(Path(landmarks.__file__).parent, here / "actor.py", here / "ray_data.py")


def versions(landmarker: str) -> dict[str, str]:
    """Of Python and the packages that may move a point or a pixel in its last digits."""
    own = {"fan": ("face-alignment", "torch"), "dlib": ("dlib-bin",)}.get(landmarker, ())
    packages = ("numpy", "opencv-python", "pillow", *own)
    return {"python": platform.python_version(), **{name: version(name) for name in packages}}
