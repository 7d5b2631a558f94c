"""What aligning is about to do: the dataset, where it lies and goes, and all that decides the faces. Refuses early."""

from __future__ import annotations

import platform
from dataclasses import dataclass, replace
from functools import cache
from importlib.metadata import version
from pathlib import Path

from study import landmarks
from study.align.datasets import DATASETS, Dataset
from study.align.options import Options
from study.artifacts.aligned import Recipe
from study.cli.options import home
from study.cli.run import refuse_ignored
from study.files.storage import Folder, open_folder
from study.landmarks.fan import DTYPES, check_device
from study.landmarks.landmarkers import LANDMARKERS, weights_digest
from study.landmarks.search import TRIES
from study.landmarks.warp import TEMPLATE, TEMPLATE_NAME
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
    if options.dataset not in DATASETS:
        raise unknown("dataset", options.dataset, DATASETS)
    dataset = DATASETS[options.dataset]
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
    root, out = find_root(dataset, options), open_folder(options.out or home([dataset.name]) / dataset.name)
    recipe = Recipe(
        dataset=dataset.name,
        landmarker=landmarker,
        weights=weights_digest(landmarker),
        device=options.device.split(":")[0] if by_fan else "cpu",
        dtype=options.dtype if by_fan else "float32",
        template=TEMPLATE_NAME,
        points=tuple(map(tuple, TEMPLATE.tolist())),
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


def find_root(dataset: Dataset, options: Options) -> Folder:
    """The folder of the dataset's photos. Raises ValueError or FileNotFoundError where there is none."""
    if options.root:
        root = open_folder(options.root)
    elif dataset.builtin:
        root = open_folder(dataset.builtin)
    else:
        raise ValueError(f"{dataset.name} needs --root, the folder that holds its photos")
    if not root.is_folder():
        raise FileNotFoundError(f"no folder {root}; --root is where {dataset.what.split(':')[0]} is")
    return replace(root, follow_links=options.follow_links)


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
