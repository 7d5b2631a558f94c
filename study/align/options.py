"""What aligning is asked."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Annotated

import tyro

from study.cluster.start import Joining
from trainables.fields import Amount, Count, Positive, Range, Whole


@dataclass(frozen=True)
class Options:
    """Options of `python -m study.align`."""

    dataset: Annotated[str, tyro.conf.Positional] = ""
    """fgnet, utkface, aaf, imdb, wiki, people or strangers (the last two are built in). Without one: both of these."""
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
    """Side of an aligned face in pixels. Training makes it smaller, so choose a large one."""
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
    """Log the table's counts to MLflow (mlruns/, or MLFLOW_TRACKING_URI)."""
    ray: Annotated[Joining, tyro.conf.arg(name="")] = field(default_factory=Joining)
